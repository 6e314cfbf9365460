# sluice_room(NAME [COLD] [SINGLE] [USES room...] [LIBS library...] [TEST_LIBS library...])
#
# A room is a folder under src/ with one library: every .cc beside this CMakeLists except tests and
# benchmarks becomes `sluice_NAME`; every *_test.cc becomes one executable `NAME_test` whose cases
# CTest lists one by one. USES names the rooms it includes from. A folder below with a CMakeLists of its own is left
# to that, for what not every build has (a device's library). COLD rooms run once for a request and never for a row;
# they and all tests are compiled with -O1, which takes a quarter off the build. Sources are compiled several at a time
# (cmake/Unity.cmake), but for those of SINGLE rooms, where some compile themselves once per instruction set.
function(sluice_room name)
  cmake_parse_arguments(ROOM "COLD;SINGLE" "" "USES;LIBS;TEST_LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  file(GLOB_RECURSE parts CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}" "CMakeLists.txt")
  list(REMOVE_ITEM parts "CMakeLists.txt")
  foreach(part IN LISTS parts)
    cmake_path(GET part PARENT_PATH folder)
    file(GLOB_RECURSE inner "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc")
    list(REMOVE_ITEM sources "" ${inner})
  endforeach()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench|main)\\.cc$")

  set(scope PUBLIC)
  if(sources)
    add_library(sluice_${name} STATIC ${sources})
  else()
    add_library(sluice_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_link_libraries(sluice_${name} ${scope} sluice_options)
  if(ROOM_COLD AND sources)
    target_compile_options(sluice_${name} PRIVATE ${SLUICE_COLD})
    sluice_precompiled(sluice_${name} COLD)
  elseif(sources)
    sluice_precompiled(sluice_${name} HOT)
  endif()
  if(sources AND NOT ROOM_SINGLE)
    sluice_unity(sluice_${name})
  endif()
  foreach(used IN LISTS ROOM_USES)
    target_link_libraries(sluice_${name} ${scope} sluice_${used})
  endforeach()
  target_link_libraries(sluice_${name} ${scope} ${ROOM_LIBS})

  if(SLUICE_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE
      sluice_${name} ${ROOM_TEST_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
    target_compile_options(${name}_test PRIVATE ${SLUICE_COLD})
    sluice_precompiled(${name}_test TEST)
    if(NOT ROOM_SINGLE)
      sluice_unity(${name}_test)
    endif()
    target_compile_definitions(${name}_test PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT 120 LABELS "unit")
  endif()
endfunction()
