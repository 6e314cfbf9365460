#include <fmt/format.h>

#include <string>
#include <string_view>

#include "text/ebnf.h"
#include "text/json_grammar.h"

// Rules of JSON values of any shape.
namespace sluice::text {
namespace {

// What may follow inside a string, with its closing quote. A rule that calls itself at its end: the masks
// inside are then made when the grammar is compiled. With `mark`, text3 says that three characters of it have
// just been written; it has its first character nowhere else, so that one alone begins it anew.
std::string TextRules(std::string_view mark) {
  constexpr std::string_view kEnds = R"("\"" | "\\" escape text)";
  if (mark.empty()) return fmt::format("text ::= {} | [^\\u0000-\\u001f\"\\\\] text\n", kEnds);
  const char first = mark.front();
  std::string rules =
      fmt::format("text ::= {0} | \"{1}\" text1 | [^\\u0000-\\u001f\"\\\\{1}] text\n", kEnds, first);
  for (size_t written = 1; written < mark.size(); ++written) {
    const std::string next =
        written + 1 < mark.size() ? fmt::format(" | \"{}\" text{}", mark[written], written + 1) : "";
    rules += fmt::format("text{0} ::= {1} | \"{2}\" text1{3} | [^\\u0000-\\u001f\"\\\\{2}{4}] text\n",
                         written, kEnds, first, next, mark[written]);
  }
  return rules;
}

}  // namespace

// Escapes of surrogates come in pairs, so that an answer is text for every JSON parser.
std::string SharedJsonRules(std::string_view mark) {
  const std::string integer = fmt::format("\"-\"? (\"0\" | [1-9] {})", EbnfRepeat("[0-9]", 0, 17));
  const std::string fraction = fmt::format("(\".\" {})?", EbnfRepeat("[0-9]", 1, 16));
  return fmt::format("ws ::= \"\" | \" \" | \"\\n\" {}\n", EbnfRepeat("[ \\t]", 0, 20)) +
         fmt::format("integer ::= {}\n", integer) +
         fmt::format("number ::= {} {} ([eE] [-+]? [0-9] [0-9]?)?\n", integer, fraction) + R"(
hex ::= [0-9a-fA-F]
escape ::= ["\\/bfnrt] | "u" ([0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex | [dD] [89abAB] hex hex "\\u" [dD] [c-fC-F] hex hex)
string ::= "\"" text
member ::= string ws ":" ws value
object ::= "{" ws (member ws ("," ws member ws)*)? "}"
array ::= "[" ws (value ws ("," ws value ws)*)? "]"
value ::= object | array | string | number | "true" | "false" | "null"
)" + TextRules(mark);
}

std::string JsonObjectRules() { return "root ::= object\n" + SharedJsonRules(""); }

}  // namespace sluice::text
