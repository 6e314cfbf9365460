# The rooms under src/, lowest first: a room may include only from itself and from those before it
# (docs/architecture.md). tests/house/include_order_test.cmake reads this list and holds every include to it.
set(SLUICE_ROOMS
  base client trace tensor comm ops doctor text evaluate checkpoint parallel step cache model
  pipeline schedule engine serve bench cli)
