#pragma once

#include <string>
#include <string_view>

namespace sluice::serve {

// The present time as a Date header has it.
std::string HttpDate();

// Whether a client's x-request-id can be given back: 1 to 128 letters, digits and -_.:/+=.
bool IsRequestId(std::string_view text);

// The path of a request target, percent-decoded, without the query. A broken escape stays as it is.
std::string PathOf(std::string_view target);

}  // namespace sluice::serve
