#pragma once

#include <memory>

#include "ops/cuda/back_end.h"
#include "ops/cuda/device_rows.h"

namespace sluice::ops::cuda {

// Test support: a back end of the test's own, and tensors that go there and come back. Skipped by name where
// there is no GPU.
class OpsOnGpu : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (!IsSkipped()) ops_ = std::make_unique<CudaOps>(0);
  }
  OwnedTensor ToGpu(const Tensor& host) {
    OwnedTensor there(host.dtype, host.rows, host.cols, ops_->memory());
    if (host.bytes() > 0) ops_->memory().Copy(host.data, there.view().data, host.bytes());
    return there;
  }
  // As it is when everything enqueued is done.
  OwnedTensor ToHost(const Tensor& there) {
    ops_->Finish();
    OwnedTensor host(there.dtype, there.rows, there.cols);
    if (there.bytes() > 0) ops_->memory().Copy(there.data, host.view().data, there.bytes());
    return host;
  }

  std::unique_ptr<CudaOps> ops_;
};

}  // namespace sluice::ops::cuda
