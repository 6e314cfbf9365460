#include "golden_vectors.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace sluice::golden {
namespace {

// The tensors of a small safetensors file, copied out by name.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    uint64_t header_bytes = 0;
    if (bytes_.size() < sizeof(header_bytes)) Refuse("is missing or too short");
    std::memcpy(&header_bytes, bytes_.data(), sizeof(header_bytes));
    if (header_bytes > bytes_.size() - sizeof(header_bytes)) Refuse("has a header that is too long");
    begin_ = sizeof(header_bytes) + header_bytes;
    header_ = nlohmann::json::parse(bytes_.begin() + sizeof(header_bytes),
                                    bytes_.begin() + static_cast<std::ptrdiff_t>(begin_), nullptr, false);
    if (!header_.is_object()) Refuse("has no JSON header");
  }

  bool Has(const std::string& name) const { return header_.contains(name); }

  template <typename T>
  std::vector<T> Get(const std::string& name, const char* dtype) const {
    if (!Has(name) || header_[name].value("dtype", "") != dtype) Refuse("lacks tensor " + name);
    const auto offsets = header_[name]["data_offsets"].get<std::vector<uint64_t>>();
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > bytes_.size() - begin_) {
      Refuse("has wrong offsets for tensor " + name);
    }
    std::vector<T> values((offsets[1] - offsets[0]) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + begin_ + offsets[0], values.size() * sizeof(T));
    return values;
  }
  std::vector<float> Floats(const std::string& name) const { return Get<float>(name, "F32"); }
  std::vector<int32_t> Ints(const std::string& name) const { return Get<int32_t>(name, "I32"); }
  std::string Text(const std::string& name) const {
    const auto bytes = Get<char>(name, "U8");
    return {bytes.begin(), bytes.end()};
  }

 private:
  [[noreturn]] void Refuse(const std::string& why) const {
    Fail(ErrorKind::kModelFiles, "The vector file {} {}: make it again with make_vectors.py.", path_.string(),
         why);
  }

  std::filesystem::path path_;
  std::vector<char> bytes_;
  size_t begin_ = 0;
  nlohmann::json header_;
};

}  // namespace

bool Vectors::Selected(int64_t layer, int64_t row, int64_t position) const {
  const int64_t row_bytes = (rows() + 7) / 8;
  return (selected[(layer * rows() + row) * row_bytes + position / 8] >> (position % 8) & 1) != 0;
}

std::vector<int32_t> Vectors::Selection(int64_t layer, int64_t row) const {
  std::vector<int32_t> positions;
  for (int32_t p = 0; p <= row; ++p) {
    if (Selected(layer, row, p)) positions.push_back(p);
  }
  return positions;
}

Vectors ReadVectors(const std::filesystem::path& path) {
  const Reader read(path);
  Vectors v;
  v.name = path.stem().string();
  v.tokens = read.Ints("tokens");
  v.prompt_tokens = read.Ints("prompt_tokens").at(0);
  v.seed = static_cast<uint64_t>(read.Ints("seed").at(0));
  v.selected = read.Get<uint8_t>("selected", "U8");
  v.margin = read.Floats("margin");
  v.deviation = read.Floats("deviation");
  v.near_offsets = read.Ints("near_offsets");
  v.near_positions = read.Ints("near_positions");
  v.near_distances = read.Floats("near_distances");
  v.logit_rows = read.Ints("logit_rows");
  v.logits = read.Floats("logits");
  if (read.Has("greedy_gap")) v.greedy_gap = read.Floats("greedy_gap");
  v.inv_freq = read.Floats("inv_freq");
  v.config_json = read.Text("config_json");
  v.tensor_table = read.Text("tensor_table");

  const auto config = nlohmann::json::parse(v.config_json);
  v.layers = config.at("num_hidden_layers").get<int64_t>();
  v.top_k = config.at("index_topk").get<int64_t>();
  v.vocab = config.at("vocab_size").get<int64_t>();
  const auto cells = static_cast<size_t>(v.layers * v.rows());
  const bool fits = v.selected.size() == cells * static_cast<size_t>((v.rows() + 7) / 8) &&
                    v.margin.size() == cells && v.deviation.size() == cells &&
                    v.near_offsets.size() == cells + 1 &&
                    v.near_positions.size() == v.near_distances.size() &&
                    v.near_offsets.back() == static_cast<int32_t>(v.near_positions.size()) &&
                    v.logits.size() == v.logit_rows.size() * static_cast<size_t>(v.vocab);
  if (!fits) {
    Fail(ErrorKind::kModelFiles, "The tensors of the vector file {} do not fit each other: make it again.",
         path.string());
  }
  return v;
}

}  // namespace sluice::golden
