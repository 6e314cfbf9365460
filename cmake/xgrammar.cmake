# xgrammar: the token masks of grammars (docs/decisions/grammar.md says why this version). Debian has no package; the
# source archive comes from PyPI, checked against its hash, and is kept for all presets. What a build without a
# network can do is in the sentence below.
set(version 0.1.25)
set(sha256 70ce16b27e8082f20808ed759b0733304316facc421656f0f30cfce514b5b77a)
set(url "https://files.pythonhosted.org/packages/f2/a9/dc3c63cf7f082d183711e46ef34d10d8a135c2319dc581905d79449f52ea/xgrammar-${version}.tar.gz")
set(archive "${PROJECT_SOURCE_DIR}/build/downloads/xgrammar-${version}.tar.gz")
set(source "${PROJECT_BINARY_DIR}/xgrammar-${version}")

set(found "")
if(EXISTS "${archive}")
  file(SHA256 "${archive}" found)
endif()
if(NOT found STREQUAL sha256)
  message(STATUS "Fetching xgrammar ${version} from PyPI")
  set(part "${archive}.${PROJECT_NAME}-part")
  file(DOWNLOAD "${url}" "${part}" STATUS status TIMEOUT 180)
  list(GET status 0 code)
  list(GET status 1 why)
  set(found "")
  if(code EQUAL 0)
    file(SHA256 "${part}" found)
    set(why "its SHA-256 is ${found}")
  endif()
  if(NOT found STREQUAL sha256)
    file(REMOVE "${part}")
    message(FATAL_ERROR "The sources of xgrammar ${version} could not be had from ${url}: ${why}. Without a "
      "network, put that file, whose SHA-256 is ${sha256}, at ${archive}.")
  endif()
  file(RENAME "${part}" "${archive}")
endif()
if(NOT EXISTS "${source}/include/xgrammar/xgrammar.h")
  file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${PROJECT_BINARY_DIR}"
    PATTERNS "*/cpp/*" "*/include/*" "*/3rdparty/picojson/*" "*/3rdparty/dlpack/include/*" "*/LICENSE" "*/NOTICE")
  # Its trie takes a token that holds another one anywhere for one that begins with it, and then leaves allowed tokens
  # out of masks (grammar_test.cc compares masks with brute force).
  set(file "${source}/cpp/tokenizer_info.cc")
  set(wrong "token.find(prefix_stack.top().first) == std::string::npos")
  set(right "token.compare(0, prefix_stack.top().first.size(), prefix_stack.top().first) != 0")
  file(READ "${file}" text)
  string(FIND "${text}" "${wrong}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${file} is not the text that cmake/xgrammar.cmake mends.")
  endif()
  string(REPLACE "${wrong}" "${right}" text "${text}")
  file(WRITE "${file}" "${text}")
endif()

# Its own CMakeLists.txt builds Python bindings and sets flags for the whole project.
file(GLOB xgrammar_sources "${source}/cpp/*.cc" "${source}/cpp/support/*.cc")
add_library(xgrammar STATIC EXCLUDE_FROM_ALL ${xgrammar_sources})
target_include_directories(xgrammar SYSTEM PUBLIC "${source}/include" "${source}/3rdparty/dlpack/include")
target_include_directories(xgrammar SYSTEM PRIVATE "${source}/3rdparty/picojson")
# The first two are what its sources expect to be defined; with the third its log goes where ours goes
# (src/text/grammar.cc).
target_compile_definitions(xgrammar PRIVATE XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0
  XGRAMMAR_LOG_CUSTOMIZE=1)
target_compile_features(xgrammar PRIVATE cxx_std_17)
target_compile_options(xgrammar PRIVATE -w)
if(SLUICE_SANITIZER)
  target_compile_options(xgrammar PRIVATE -fsanitize=${SLUICE_SANITIZER} -O1 -g1)
endif()
target_link_libraries(xgrammar PRIVATE Threads::Threads)
sluice_unity(xgrammar)
