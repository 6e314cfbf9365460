#include "step/step.h"

namespace sluice::step {

int64_t Step::rows() const {
  int64_t rows = 0;
  for (const StepSequence& sequence : sequences) rows += static_cast<int64_t>(sequence.tokens.size());
  return rows;
}

std::vector<int32_t> Step::Tokens() const {
  std::vector<int32_t> tokens;
  for (const StepSequence& sequence : sequences) {
    tokens.insert(tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
  }
  return tokens;
}

std::vector<ops::RowPlace> Step::Places() const {
  std::vector<ops::RowPlace> places;
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (size_t row = 0; row < sequences[s].tokens.size(); ++row) {
      places.push_back({static_cast<int32_t>(s), sequences[s].first_position + static_cast<int32_t>(row)});
    }
  }
  return places;
}

std::vector<int64_t> Step::RowsOfSequences() const {
  std::vector<int64_t> rows;
  for (const StepSequence& sequence : sequences) rows.push_back(static_cast<int64_t>(sequence.tokens.size()));
  return rows;
}

}  // namespace sluice::step
