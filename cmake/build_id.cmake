# Writes OUT, a source file with the function sluice::engine::BuildId: the version and a digest of every source under
# ROOT/src that is not a test. Ranks with different digests do not join (docs/decisions/control-plane.md).
file(GLOB_RECURSE sources RELATIVE "${ROOT}/src" "${ROOT}/src/*.h" "${ROOT}/src/*.cc")
list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
list(SORT sources)
set(digests "")
foreach(source IN LISTS sources)
  file(SHA256 "${ROOT}/src/${source}" digest)
  string(APPEND digests "${source} ${digest}\n")
endforeach()
string(SHA256 digest "${digests}")
string(SUBSTRING "${digest}" 0 12 digest)
file(WRITE "${OUT}" "#include \"engine/build_id.h\"

namespace sluice::engine {

std::string BuildId() { return \"sluice ${VERSION} (source ${digest})\"; }

}  // namespace sluice::engine
")
