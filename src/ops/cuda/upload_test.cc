#include "tensor/upload.h"

#include <vector>

#include "ops/cuda/device.h"
#include "ops/cuda/device_rows.h"

namespace sluice::ops::cuda {
namespace {

class UploadToGpu : public OnGpu {};

// Threads that had not used the GPU before fill it.
TEST_F(UploadToGpu, IsTheBytes) {
  constexpr size_t kBytes = 21 * static_cast<size_t>(Upload::kPieceBytes) + 5;
  std::vector<uint8_t> source(kBytes);
  for (size_t i = 0; i < kBytes; ++i) source[i] = static_cast<uint8_t>((i * 2654435761U) >> 13);
  const OnDevice<uint8_t> target(std::vector<uint8_t>(kBytes, 0));
  Upload upload(DeviceMemory(0), 3);
  const Upload::Span span{source.data(), target.data(), std::ssize(source)};
  upload.Copy({&span, 1});
  EXPECT_EQ(target.Get(), source);
}

}  // namespace
}  // namespace sluice::ops::cuda
