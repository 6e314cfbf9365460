#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::text {

// The most that a schema may ask for: these bound the time and the memory of a compilation.
inline constexpr std::size_t kMaxSchemaBytes = 64 * 1024;
inline constexpr int kMaxSchemaDepth = 32;
inline constexpr int64_t kMaxSchemaNodes = 1000;       // schemas inside the schema
inline constexpr int64_t kMaxSchemaEnumValues = 1000;  // over all enums
inline constexpr int64_t kMaxSchemaItems = 256;        // minItems, maxItems

// The rules (EBNF as xgrammar reads it, the first rule is `root`) of JSON texts that are valid under a JSON
// schema. Supported: type (one or a list), properties, required, additionalProperties, items, minItems,
// maxItems, enum, const, anyOf, allOf with one member, $ref within the schema, $defs, and annotations.
// Error(kBadRequest) that says where for everything else: what is not understood is refused, never left out.
//
// Every text of the rules is valid; not every valid text is among them. Members come in the order of
// `properties`; where there are properties, no others are written; between tokens stands no more white space
// than one blank or one line break with at most 20 blanks; numbers have at most 18 digits before the point
// and 16 behind it, and an exponent at most two.
std::string JsonSchemaRules(std::string_view schema);

// The rules of any JSON object.
std::string JsonObjectRules();

// For a grammar that has JSON values inside: the rule `name`, and rules whose names begin with it, of the
// JSON texts that are valid under the schema at `place` (a JSON pointer) of `schema`; `$ref` is looked for in
// all of `schema`. They need SharedJsonRules. Refusals as above.
std::string JsonSchemaRulesAt(std::string_view name, std::string_view schema, const std::string& place);

// Without a root: `value`, `object`, `array`, `string`, `number`, `integer` and what these need. No string
// has `mark` in it: ASCII letters, "<", ">", "/" and "_", more than one, the first of them once; empty:
// strings have anything in them.
std::string SharedJsonRules(std::string_view mark);

}  // namespace sluice::text
