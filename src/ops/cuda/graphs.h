#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace sluice::ops::cuda {

// The CUDA graphs of a back end. A graph is cut into pieces where the host has to look at, or move, what was
// computed so far; a piece is launched when all its ops were called.
class Graphs {
 public:
  // bring_lists(): puts on the stream what the ops called so far are to read.
  Graphs(cudaStream_t stream, std::function<void()> bring_lists)
      : stream_(stream), bring_lists_(std::move(bring_lists)) {}
  ~Graphs();
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  // From here to End ops are recorded under `key`, not computed; or must be those recorded, and are computed.
  void Record(int64_t key);
  void Launch(int64_t key);
  // Throws Error(kInternal) where the ops since Launch were others than those since Record.
  void End();
  bool Active() const { return mode_ != Mode::kOff; }
  bool Records() const { return mode_ == Mode::kRecord; }

  // Called for every op, with what it writes: whether it is to be enqueued now.
  bool Enqueues(const void* out);
  // Ends the piece, if anything was called since it began.
  void Cut();

  int64_t launches() const { return launches_; }  // of pieces, since the start

 private:
  enum class Mode { kOff, kRecord, kLaunch };
  struct Piece {
    cudaGraphExec_t graph = nullptr;
    int64_t ops = 0;
    uint64_t outputs = 0;  // what identifies them: a hash of all that they write
  };
  void CallOff();
  void LaunchPiece();

  const cudaStream_t stream_;
  const std::function<void()> bring_lists_;
  std::map<int64_t, std::vector<Piece>> graphs_;
  Mode mode_ = Mode::kOff;
  int64_t key_ = 0;
  size_t piece_ = 0;  // the one in which ops are called
  Piece called_;      // what was called of it
  int64_t launches_ = 0;
};

}  // namespace sluice::ops::cuda
