#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sluice::comm {

// Who a rank says it is when it joins, and which job it was started for.
struct Hello {
  int rank = -1;
  int world = 0;      // ranks in the job
  std::string build;  // the same on all ranks
  // What must agree of layout, model and limits, as "name value name value ..."; no value has a space.
  // "checkpoint" is the fingerprint of the model's files.
  std::string description;
};

std::vector<std::byte> EncodeHello(const Hello& hello);
// Throws Error(kRankLost) unless the bytes are exactly one encoded hello.
Hello DecodeHello(std::span<const std::byte> bytes);

// Why a rank that says `hello` may not join the job that `expected` describes, or empty. The sentence names
// what differs and both values. expected.rank is not looked at.
std::string Objection(const Hello& hello, const Hello& expected);

}  // namespace sluice::comm
