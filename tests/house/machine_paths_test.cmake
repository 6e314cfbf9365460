# The project is the same on every machine: no file names a place where somebody keeps it.
cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/tree.cmake")

# At the beginning of a path; "share/home/x" and "\${dir}/work/x" are no such places.
set(machine_path "(^|[^A-Za-z0-9_.~}>)-])/(work|root|home|farm)/")
set(defects "")
tree_files(files)
foreach(file IN LISTS files)
  file(STRINGS "${ROOT}/${file}" lines REGEX "${machine_path}" LIMIT_COUNT 1)
  if(NOT lines STREQUAL "")
    string(REGEX MATCH "/(work|root|home|farm)/[A-Za-z0-9_./-]*" path "${lines}")
    list(APPEND defects "${file}: ${path}")
  endif()
endforeach()
conclude("${defects}" "No file names a path of a machine")
