#include "checkpoint/random_checkpoint.h"

#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "checkpoint/random_path.h"
#include "checkpoint/random_weights.h"
#include "text/byte_tokenizer.h"

namespace sluice::checkpoint {
namespace {

class RandomCheckpoint final : public Checkpoint {
 public:
  RandomCheckpoint(std::filesystem::path path, RandomModel model)
      : path_(std::move(path)), model_(std::move(model)), plan_(PlanCheckpoint(model_)) {
    for (const TensorSpec& spec : plan_.specs) by_name_.emplace(spec.name, &spec);
  }

  const ModelConfig& config() const override { return plan_.config; }
  bool is_fp8() const override { return model_.format == WeightFormat::kFp8; }
  int64_t tensor_count() const override { return plan_.tensors - plan_.nextn_tensors; }
  int64_t tensor_bytes() const override { return plan_.bytes - plan_.nextn_bytes; }
  int64_t nextn_tensor_count() const override { return plan_.nextn_tensors; }

  bool Has(const std::string& name) const override {
    if (!IsScaleName(name)) return by_name_.contains(name);
    const auto weight = by_name_.find(name.substr(0, name.size() - std::string_view(kScaleSuffix).size()));
    return weight != by_name_.end() && DTypeFor(weight->second->kind, model_.format) == DType::kF8E4M3;
  }

  StoredTensor Get(const std::string& name) const override {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) {
      SLUICE_CHECK(!IsScaleName(name), "{} is made with its weight", name);
      Fail(ErrorKind::kModelFiles, "{} has no tensor {}.", path_.string(), name);
    }
    const RandomMatrix matrix = MatrixOf(*found->second, model_);
    return {
        name,  matrix.dtype, found->second->shape, nullptr, matrix.rows * matrix.cols * SizeOf(matrix.dtype),
        path_, matrix};
  }

  // There is nothing to read ahead or to let go, and nothing that could be damaged.
  void Preload(std::span<const std::string>, int, const LoadProgress&) const override {}
  void ReleasePages(const std::string&) const override {}
  void VerifyIntact() const override {}

  std::optional<std::string> TextFile(const std::string& name) const override {
    return TextFileOf(plan_, name);
  }

  uint64_t fingerprint() const override {
    return SplitMix64(Fnv1a64(fmt::format("random {} {} {}\n{}", static_cast<int>(model_.format), model_.seed,
                                          model_.embedding_gain, CanonicalText(plan_.config))));
  }

 private:
  const std::filesystem::path path_;
  const RandomModel model_;
  const CheckpointPlan plan_;
  std::unordered_map<std::string_view, const TensorSpec*> by_name_;  // into plan_
};

}  // namespace

std::unique_ptr<Checkpoint> OpenRandom(const std::filesystem::path& model_path) {
  RandomModel model = ParseRandomPath(model_path);
  try {
    auto checkpoint = std::make_unique<RandomCheckpoint>(model_path, std::move(model));
    if (checkpoint->config().vocab_size < text::kSmallestByteVocabulary) {
      Fail(ErrorKind::kModelFiles, "{}: a vocabulary of {} is too small for the tokenizer; use {} or more",
           model_path.string(), checkpoint->config().vocab_size, text::kSmallestByteVocabulary);
    }
    return checkpoint;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    Fail(ErrorKind::kModelFiles, "{}: {}", model_path.string(), error.what());
  }
}

}  // namespace sluice::checkpoint
