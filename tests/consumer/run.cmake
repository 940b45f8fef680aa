# Installs the core from BUILD below WORK, then configures, builds and runs this project against it.
# What examples/score_programs.cpp prints is what docs/score-programs.md shows below its C++.
file(REMOVE_RECURSE "${WORK}")
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix" --component core)
run("${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${SOURCE}" -B "${WORK}/build"
  "-DCMAKE_PREFIX_PATH=${WORK}/prefix" "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=${FLAGS}")
run("${CMAKE_COMMAND}" --build "${WORK}/build")
run("${WORK}/build/attention")
run("${WORK}/build/score_programs" OUTPUT_FILE "${WORK}/programs.txt")

file(READ "${WORK}/programs.txt" printed)
file(READ "${SOURCE}/../../docs/score-programs.md" page)
string(REPLACE ";" "," page "${page}")  # it would end an item of the list of matches
string(REGEX MATCHALL "```cpp\n[^`]*```\n\n```text\n[^`]*```" blocks "${page}")
list(TRANSFORM blocks REPLACE "^.*```text\n([^`]*)\n```$" "\\1\n\n")
list(JOIN blocks "" expected)
if(NOT printed STREQUAL expected)
  file(WRITE "${WORK}/expected.txt" "${expected}")
  execute_process(COMMAND diff -u "${WORK}/expected.txt" "${WORK}/programs.txt")
  message(FATAL_ERROR "docs/score-programs.md does not show what examples/score_programs.cpp prints")
endif()
