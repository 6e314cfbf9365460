# Shows every rule a small tree that keeps it and, one defect at a time, trees that do not.
cmake_minimum_required(VERSION 3.25)

function(run rule)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -D "ROOT=${SCRATCH}" -P "${CMAKE_CURRENT_LIST_DIR}/${rule}_test.cmake"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(result "${result}" PARENT_SCOPE)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  set(output "${output}" PARENT_SCOPE)
endfunction()

# The rule must hold for the tree, fail once `file` holds `text`, naming `sentence`, and hold again without it.
function(expect_refusal rule file text sentence)
  run(${rule})
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${rule} refuses a good tree: ${output}")
  endif()
  file(WRITE "${SCRATCH}/${file}" "${text}")
  run(${rule})
  file(REMOVE "${SCRATCH}/${file}")
  string(FIND "${output}" "${sentence}" at)
  if(result EQUAL 0 OR at EQUAL -1)
    message(FATAL_ERROR "${rule} does not say '${sentence}' of ${file}, it says: ${output}")
  endif()
endfunction()

file(REMOVE_RECURSE "${SCRATCH}")
file(WRITE "${SCRATCH}/cmake/rooms.cmake" "set(SLUICE_ROOMS low middle high)\n")
file(WRITE "${SCRATCH}/src/middle/good.cc" "#include <vector>\n#include \"low/a.h\"\n#include \"middle/b.h\"\n"
  "#include \"library/c.h\"\n")
file(WRITE "${SCRATCH}/src/high/good.h" "  # include \"low/a.h\"\n#include \"middle/b.h\"\n")
file(WRITE "${SCRATCH}/docs/good.md" "share/home/x and a/work/b\n")

expect_refusal(include_order src/middle/bad.h "int x;\n  #  include \"high/c.h\"\n"
  "src/middle/bad.h: includes \"high/c.h\", and high stands above middle")
expect_refusal(include_order src/low/deep/bad.cu "#include \"middle/c.h\"\n"
  "src/low/deep/bad.cu: includes \"middle/c.h\", and middle stands above low")
expect_refusal(include_order src/low/bad.cc "#include \"c.h\"\n"
  "src/low/bad.cc: includes \"c.h\", which does not begin with a room")
expect_refusal(include_order src/low/bad.cc "#include \"../high/c.h\"\n"
  "src/low/bad.cc: includes \"../high/c.h\", which does not begin with a room")
file(WRITE "${SCRATCH}/src/low/deep/c.h" "int x;\n")
expect_refusal(include_order src/low/bad.cc "#include \"deep/c.h\"\n"
  "src/low/bad.cc: includes \"deep/c.h\", which does not begin with a room")
expect_refusal(include_order src/low/bad.cc "#include <high/c.h>\n"
  "src/low/bad.cc: has #include <high/c.h>")
expect_refusal(include_order src/attic/bad.cc "int x;\n" "src/attic/bad.cc: lies in no room")

string(REPEAT "int x[] = {1, 2};  // [\n" 500 longest)
file(WRITE "${SCRATCH}/src/low/longest.cc" "${longest}")
file(WRITE "${SCRATCH}/src/low/longer_test.cc" "${longest}\n\n")
expect_refusal(file_length src/low/bad.cc "${longest}\n" "src/low/bad.cc: 501 lines")

# Put together here, for this file is one of those the rule reads.
foreach(place work root home farm)
  expect_refusal(machine_paths .hidden/bad.md "see [\"/${place}/x.txt\"; there]\n"
    ".hidden/bad.md: /${place}/x.txt")
  expect_refusal(machine_paths bad.txt "[\n;/${place}/x\n" "bad.txt: /${place}/x")
endforeach()
message(STATUS "Every rule refuses what it is there to refuse.")
