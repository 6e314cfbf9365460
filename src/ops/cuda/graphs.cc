#include "ops/cuda/graphs.h"

#include "base/error.h"
#include "ops/cuda/check.h"
#include "tensor/counter_random.h"

namespace sluice::ops::cuda {

Graphs::~Graphs() {
  CallOff();
  for (const auto& [key, pieces] : graphs_) {
    for (const Piece& piece : pieces) cudaGraphExecDestroy(piece.graph);
  }
}

// A recording that an error has broken off.
void Graphs::CallOff() {
  if (mode_ != Mode::kRecord || called_.ops == 0) return;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
}

void Graphs::Record(int64_t key) {
  SLUICE_CHECK(!Active() && !graphs_.contains(key), "graph {} is recorded already", key);
  mode_ = Mode::kRecord;
  key_ = key;
  piece_ = 0;
  called_ = {};
}

void Graphs::Launch(int64_t key) {
  SLUICE_CHECK(!Active() && graphs_.contains(key), "graph {} is not recorded", key);
  mode_ = Mode::kLaunch;
  key_ = key;
  piece_ = 0;
  called_ = {};
}

void Graphs::End() {
  Cut();
  if (mode_ == Mode::kLaunch && piece_ != graphs_[key_].size()) {
    Fail(ErrorKind::kInternal, "the pass of graph {} ended after {} of {} pieces", key_, piece_,
         graphs_[key_].size());
  }
  mode_ = Mode::kOff;
}

bool Graphs::Enqueues(const void* out) {
  if (mode_ == Mode::kOff) return true;
  if (mode_ == Mode::kLaunch) {
    // A recording is cut wherever a collective stands, a pass only where the collective moves something.
    if (piece_ < graphs_[key_].size() && called_.ops == graphs_[key_][piece_].ops) LaunchPiece();
  } else if (called_.ops == 0) {
    Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "recording graph {}", key_);
  }
  ++called_.ops;
  called_.outputs = SplitMix64(called_.outputs ^ reinterpret_cast<uintptr_t>(out));
  return mode_ == Mode::kRecord;
}

void Graphs::Cut() {
  if (called_.ops == 0) return;
  if (mode_ == Mode::kLaunch) return LaunchPiece();
  cudaGraph_t graph = nullptr;
  Check(cudaStreamEndCapture(stream_, &graph), "recording graph {}", key_);
  Piece piece = called_;
  called_ = {};
  const cudaError_t made = cudaGraphInstantiate(&piece.graph, graph, 0);
  cudaGraphDestroy(graph);
  Check(made, "making graph {} of {} ops", key_, piece.ops);
  graphs_[key_].push_back(piece);
  Check(cudaGraphUpload(piece.graph, stream_), "bringing graph {} to the GPU", key_);
}

void Graphs::LaunchPiece() {
  const std::vector<Piece>& pieces = graphs_[key_];
  if (piece_ >= pieces.size() || called_.ops != pieces[piece_].ops ||
      called_.outputs != pieces[piece_].outputs) {
    Fail(ErrorKind::kInternal,
         "piece {} of graph {}, of {} ops, is not what was recorded: {} pieces, this one of {} ops", piece_,
         key_, called_.ops, pieces.size(), piece_ < pieces.size() ? pieces[piece_].ops : 0);
  }
  bring_lists_();
  Check(cudaGraphLaunch(pieces[piece_].graph, stream_), "piece {} of graph {}", piece_, key_);
  ++launches_;
  ++piece_;
  called_ = {};
}

}  // namespace sluice::ops::cuda
