# Highway as hwy::hwy: its own package, or what pkg-config knows of it.
find_package(HWY CONFIG QUIET)
if(NOT HWY_FOUND)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
  add_library(hwy::hwy ALIAS PkgConfig::HWY)
endif()
