# What every target of the project is compiled with.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)

add_library(sluice_options INTERFACE)
target_include_directories(sluice_options INTERFACE "${PROJECT_SOURCE_DIR}/src")
target_compile_options(sluice_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion -Werror
  # Of sources that are compiled together (Unity.cmake) none is the other's header.
  $<IF:$<AND:$<BOOL:$<TARGET_PROPERTY:UNITY_BUILD>>,$<CXX_COMPILER_ID:GNU>>,-Wshadow=local,-Wshadow>
  # One answer: the compiler may not fuse a*b+c on its own, fusing is written out (docs/numerics.md).
  -ffp-contract=off -fno-fast-math)
target_link_libraries(sluice_options INTERFACE Threads::Threads fmt::fmt)

# For code whose speed nobody notices; comes after the build type's own level.
set(SLUICE_COLD "")
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(SLUICE_COLD -O1)
endif()

if(SLUICE_SANITIZER)
  target_compile_options(sluice_options INTERFACE
    -fsanitize=${SLUICE_SANITIZER} -fno-omit-frame-pointer -O1 -g1
    # gcc's own advice: with sanitizers this warning is about code that they put in.
    -Wno-maybe-uninitialized)
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZER})
endif()
