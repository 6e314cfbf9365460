# sluice_unity(TARGET)
#
# The sources of a target are compiled eight at a time: most of what a compiler does for one of them is done for headers
# that its neighbours include too. So names in the anonymous namespaces of a room are unique there, its tests apart. Only
# where headers are precompiled: a source that forgets an include does not build in the other builds, which compile each
# alone. -D SLUICE_UNITY=OFF does that in a release build: for whoever changes one source again and again.
option(SLUICE_UNITY "Compile several sources of a room at a time, in release builds" ON)

function(sluice_unity target)
  if(SLUICE_UNITY AND SLUICE_PRECOMPILED)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    # The first takes a source that is compiled with others for a header. The second: g++ 12 sees accesses beyond a
    # string's bounds that are not there, the more so the more it has inlined.
    target_compile_options(${target} PRIVATE
      $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage -Wno-array-bounds>)
  endif()
endfunction()
