#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "comm/channel.h"
#include "comm/fault_plan.h"

namespace sluice::comm {

// The fault that strikes a frame that is about to be sent, or nothing.
using FrameFaults = std::function<std::optional<Fault>(const Frame&)>;

// `inner`, whose frames are struck on their way out by what `faults` says of each: delayed (those behind it
// wait, as they would in a stream), dropped, sent twice, sent after the next one (or after Fault::delay), or
// with a flipped bit. What is received is untouched.
std::unique_ptr<Channel> MakeFaultyChannel(std::unique_ptr<Channel> inner, FrameFaults faults);

}  // namespace sluice::comm
