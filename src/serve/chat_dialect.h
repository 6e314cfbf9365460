#pragma once

#include "text/answer_parser.h"
#include "text/chat_style.h"

namespace sluice::serve {

// How the model is spoken to and how it writes its calls.
struct ChatDialect {
  text::ChatStyle style = text::ChatStyle::kDeepSeekV32;
  text::CallMarkup calls = text::CallMarkup::kDeepSeekV32;
};

}  // namespace sluice::serve
