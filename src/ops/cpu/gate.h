#pragma once

#include <span>

namespace sluice::ops::cpu {

// p[e] = sigmoid(logits[e]) and choice[e] = p[e] + bias[e], fp32.
void GateRow(std::span<const float> logits, const float* bias, float* p, float* choice);

}  // namespace sluice::ops::cpu
