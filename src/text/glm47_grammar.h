#pragma once

#include <span>
#include <string>

namespace sluice::text {

// The rules (as those of json_grammar.h) of an answer that is calls in GLM's markup (glm47_parser.h), and
// nothing else: one or more of the functions `names`, one exactly with `one`. Without white space, as the
// model's template writes them. For the vocabulary with kGlmCallMarks (grammar.h).
//
// `functions` are the tools, as JSON with `name` and `parameters`. Arguments come in the order of the
// schema's `properties`, those that are `required` and any of the others; where there are no properties there
// are none, or with `additionalProperties` any. A value that may be a string is any text without
// </arg_value>, or one of the strings of an `enum`; another one is JSON with no </arg_value> in its strings,
// by the property's schema where json_grammar.h understands it, else by its type. Beyond the limits of
// json_grammar.h, all functions together, arguments are free.
std::string Glm47CallRules(std::span<const std::string> functions, std::span<const std::string> names,
                           bool one);

}  // namespace sluice::text
