#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::cli {

// What the parser says of a line it does not take, as a sentence of this program: the word, what is wrong
// with it, and what would be right. `words` are those of `command`, as they were typed.
std::string SentenceOf(const CLI::Error& error, const CLI::App& command,
                       const std::vector<std::string>& words);

// For option->check: whole numbers of `least` or more, and of `least` to `most`.
CLI::Validator AtLeast(int64_t least);
CLI::Validator Between(int64_t least, int64_t most);

// For option->check of what is kept in 64 bits without a sign: the parser makes 2^64 - 1 of -1.
CLI::Validator Unsigned();

// Fails with the commands that there are when the words behind those of `command` name none of its own.
void CheckSubcommand(const CLI::App& command, const std::vector<std::string>& words);

}  // namespace sluice::cli
