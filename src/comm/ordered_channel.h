#pragma once

#include <memory>

#include "comm/channel.h"

namespace sluice::comm {

// A channel that counts: every frame sent over it carries its number among the frames of its direction, from
// 1 on, and the other end, which must be an ordered channel too, receives them in that order or not at all. A
// frame that was lost, came twice or came out of turn is a bad frame (channel.h) whose sentence says which.
// The checksum of a frame finds what changed inside it; the numbers find what happened to frames as wholes,
// which a wrong proxy, a wrong injector of faults or a bug of ours can do over the most faithful of sockets.
//
// Whatever disturbs frames on purpose wraps `inner`, below the counting.
std::unique_ptr<Channel> MakeOrderedChannel(std::unique_ptr<Channel> inner);

}  // namespace sluice::comm
