# sluice_precompiled(TARGET KIND)
#
# The headers that most sources include are parsed once for all targets of one kind instead of once a source. KIND names
# the flags that those targets share: HOT (the build type's own), COLD (SLUICE_COLD), TEST (SLUICE_COLD, with
# GoogleTest). Only in release builds: in the others a source that forgets an include does not build.
set(SLUICE_PRECOMPILED OFF)
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT SLUICE_SANITIZER)
  set(SLUICE_PRECOMPILED ON)
endif()
set(sluice_common_headers <algorithm> <filesystem> <functional> <map> <memory> <mutex> <optional> <span> <string>
  <string_view> <thread> <vector> <fmt/format.h>)
set(sluice_headers_of_HOT ${sluice_common_headers})
set(sluice_headers_of_COLD ${sluice_common_headers})
set(sluice_headers_of_TEST ${sluice_common_headers} <gmock/gmock.h> <gtest/gtest.h>)

function(sluice_precompiled target kind)
  if(NOT SLUICE_PRECOMPILED)
    return()
  endif()
  set(carrier sluice_precompiled_${kind})
  if(NOT TARGET ${carrier})
    # A target with headers needs a source; it is empty.
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/precompiled.cc" CONTENT "")
    add_library(${carrier} OBJECT "${PROJECT_BINARY_DIR}/precompiled.cc")
    target_link_libraries(${carrier} PRIVATE sluice_options)
    if(kind STREQUAL "TEST")
      target_link_libraries(${carrier} PRIVATE GTest::gtest GTest::gmock)
    endif()
    if(NOT kind STREQUAL "HOT")
      target_compile_options(${carrier} PRIVATE ${SLUICE_COLD})
    endif()
    # Lets a compiler cache see what the headers are.
    target_compile_options(${carrier} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
    target_precompile_headers(${carrier} PRIVATE ${sluice_headers_of_${kind}})
  endif()
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
  target_precompile_headers(${target} REUSE_FROM ${carrier})
endfunction()

# The same for every program and library of a folder; TEST for those with GoogleTest.
function(sluice_precompiled_folder folder kind)
  get_property(targets DIRECTORY "${folder}" PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type MATCHES "^(EXECUTABLE|STATIC_LIBRARY|OBJECT_LIBRARY)$")
      get_target_property(libraries ${target} LINK_LIBRARIES)
      if("GTest::gtest" IN_LIST libraries)
        sluice_precompiled(${target} TEST)
      else()
        sluice_precompiled(${target} ${kind})
      endif()
    endif()
  endforeach()
endfunction()
