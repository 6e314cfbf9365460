#include "checkpoint/coverage.h"

#include <fmt/format.h>

#include <unordered_set>

#include "checkpoint/tensor_map.h"

namespace sluice::checkpoint {
namespace {

class CoverageCheck {
 public:
  CoverageCheck(Inventory& inventory, Defects& defects) : inventory_(inventory), defects_(defects) {}

  void Check(const TensorSpec& spec, bool nextn) {
    const TensorLocation* tensor = Find(spec.name);
    const std::string scale_name = ScaleName(spec.name);
    const bool may_have_scale = spec.kind == TensorKind::kLinear;
    const TensorLocation* scale = may_have_scale ? Find(scale_name) : nullptr;
    Know(spec.name, nextn);
    if (may_have_scale) Know(scale_name, nextn);
    if (scale != nullptr && !nextn) inventory_.fp8 = true;

    if (tensor == nullptr) {
      if (nextn && scale != nullptr) {
        defects_.Add("{}: tensor {} has no {} beside it.", File(*scale), scale_name, spec.name);
      } else if (!nextn && !IsUnusable(spec.name)) {
        defects_.Add("{}: tensor {} is missing; config.json calls for one of shape {}.",
                     inventory_.listing.string(), spec.name, ShownShape(spec.shape));
      }
      return;
    }
    if (tensor->entry.shape != spec.shape) {
      defects_.Add("{}: tensor {} has shape {}; config.json calls for {}.", File(*tensor), spec.name,
                   ShownShape(tensor->entry.shape), ShownShape(spec.shape));
    }
    CheckDType(spec, *tensor, scale, IsUnusable(scale_name));
  }

  // What nothing called for.
  void ReportUnknown() {
    for (const auto& [name, location] : inventory_.tensors) {
      if (known_.contains(name)) continue;
      if (name.ends_with("mlp.experts.gate_up_proj") || name.ends_with("mlp.experts.down_proj")) {
        defects_.Add(
            "{}: tensor {} holds all experts of a layer in one; save one tensor per expert and projection "
            "(experts.N.gate_proj.weight, up_proj, down_proj) instead.",
            File(location), name);
      } else {
        defects_.Add("{}: tensor {} {} is not one that config.json calls for.", File(location), name,
                     ShownShape(location.entry.shape));
      }
    }
  }

 private:
  const TensorLocation* Find(const std::string& name) const {
    const auto found = inventory_.tensors.find(name);
    return found == inventory_.tensors.end() ? nullptr : &found->second;
  }
  bool IsUnusable(const std::string& name) const { return inventory_.unusable.contains(name); }
  std::string File(const TensorLocation& location) const {
    return inventory_.files[location.file].path.string();
  }

  void Know(const std::string& name, bool nextn) {
    known_.insert(name);
    if (nextn && inventory_.tensors.contains(name)) inventory_.nextn_names.insert(name);
  }

  // F8_E4M3 goes with a scale of the right shape, every other dtype without one.
  void CheckDType(const TensorSpec& spec, const TensorLocation& tensor, const TensorLocation* scale,
                  bool scale_is_unusable) {
    const DType dtype = tensor.entry.dtype;
    if (!MayHaveDType(spec.kind, dtype)) {
      defects_.Add("{}: tensor {} is {}; F32, BF16 or F16 is expected.", File(tensor), spec.name,
                   NameOf(dtype));
      return;
    }
    if (dtype == DType::kF8E4M3 && scale == nullptr && !scale_is_unusable) {
      defects_.Add("{}: tensor {} is F8_E4M3, but {} is missing.", File(tensor), spec.name,
                   ScaleName(spec.name));
    }
    if (scale == nullptr) return;
    if (dtype != DType::kF8E4M3) {
      defects_.Add("{}: tensor {} is {}, but it has {}; F8_E4M3 is expected.", File(tensor), spec.name,
                   NameOf(dtype), ScaleName(spec.name));
    }
    if (scale->entry.dtype != DType::kF32 || scale->entry.shape != ScaleShape(spec.shape)) {
      defects_.Add("{}: tensor {} is {} {}; F32 {} is expected.", File(*scale), ScaleName(spec.name),
                   NameOf(scale->entry.dtype), ShownShape(scale->entry.shape),
                   ShownShape(ScaleShape(spec.shape)));
    }
  }

  Inventory& inventory_;
  Defects& defects_;
  std::unordered_set<std::string> known_;
};

}  // namespace

void CheckCoverage(const ModelConfig& config, Inventory& inventory, Defects& defects) {
  CoverageCheck check(inventory, defects);
  for (const TensorSpec& spec : TensorsOf(config, WholeModel(config))) check.Check(spec, /*nextn=*/false);
  for (const TensorSpec& spec : NextnTensors(config)) check.Check(spec, /*nextn=*/true);
  check.ReportUnknown();
}

}  // namespace sluice::checkpoint
