#include "gpu_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <stdexcept>
#include <vector>

#include "gpu_timing.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define SLUICE_HAVE_CUBLASLT
#endif

namespace sluice::bench {

#ifdef SLUICE_HAVE_CUBLASLT
namespace {

// The functions that are wanted, by their C interface; nothing is linked.
class Library {
 public:
  explicit Library(const std::string& path) {
    std::vector<std::string> names = {path};
    if (path.empty()) {
      // By the loader, or where NVIDIA's installer puts it.
      names = {"libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
               "/usr/local/cuda/lib64/libcublasLt.so.12"};
    }
    for (const std::string& name : names) {
      if (handle_ == nullptr) handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (handle_ == nullptr) {
      throw std::runtime_error(
          fmt::format("{} is not found; name it with --cublaslt", path.empty() ? "libcublasLt.so" : path));
    }
  }
  template <typename F>
  F* Find(const char* name) const {
    void* function = dlsym(handle_, name);
    if (function == nullptr) throw std::runtime_error(fmt::format("libcublasLt has no {}", name));
    return reinterpret_cast<F*>(function);
  }

 private:
  void* handle_ = nullptr;  // for the process
};

void CheckLt(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw std::runtime_error(fmt::format("cuBLASLt refuses {}: status {}", what, static_cast<int>(status)));
  }
}

double FlopsOf(const std::string& path, cudaStream_t stream) {
  constexpr int64_t kSide = 8192;
  constexpr size_t kWorkspace = size_t{64} << 20;
  const Library library(path);
#define SLUICE_FIND(name) auto* const name##_ = library.Find<decltype(name)>(#name)
  SLUICE_FIND(cublasLtCreate);
  SLUICE_FIND(cublasLtMatmulDescCreate);
  SLUICE_FIND(cublasLtMatmulDescSetAttribute);
  SLUICE_FIND(cublasLtMatrixLayoutCreate);
  SLUICE_FIND(cublasLtMatmulPreferenceCreate);
  SLUICE_FIND(cublasLtMatmulPreferenceSetAttribute);
  SLUICE_FIND(cublasLtMatmulAlgoGetHeuristic);
  SLUICE_FIND(cublasLtMatmul);
#undef SLUICE_FIND
  const DeviceArray x(kSide * kSide, RandomCodes());
  const DeviceArray w(kSide * kSide, RandomCodes());
  const DeviceArray y(kSide * kSide * 2);
  const DeviceArray x_scales(kSide * 4, RandomScales());
  const DeviceArray w_scales(kSide * 4, RandomScales());
  const DeviceArray workspace(kWorkspace);
  // Its handles are the process's: this is done once.
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t in = nullptr;
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  CheckLt(cublasLtCreate_(&handle), "a handle");
  CheckLt(cublasLtMatmulDescCreate_(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value, const char* what) {
    CheckLt(cublasLtMatmulDescSetAttribute_(product, attribute, &value, sizeof(value)), what);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T, "a transposed operand");
  set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1}, "fast accumulation");
#if CUDART_VERSION >= 12090
  set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F, "scales of outputs");
  set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F, "scales of rows");
#endif
  set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(w_scales.as()), "scales of outputs");
  set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(x_scales.as()), "scales of rows");
  CheckLt(cublasLtMatrixLayoutCreate_(&in, CUDA_R_8F_E4M3, kSide, kSide, kSide), "an operand");
  CheckLt(cublasLtMatrixLayoutCreate_(&out, CUDA_R_16BF, kSide, kSide, kSide), "an output");
  CheckLt(cublasLtMatmulPreferenceCreate_(&preference), "a preference");
  CheckLt(cublasLtMatmulPreferenceSetAttribute_(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &kWorkspace, sizeof(kWorkspace)),
          "a workspace");
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  CheckLt(cublasLtMatmulAlgoGetHeuristic_(handle, product, in, in, out, out, preference, 1, &best, &found),
          "the product");
  if (found == 0) throw std::runtime_error("cuBLASLt has no kernel for the product");
  const float one = 1.0F;
  const float zero = 0.0F;
  const auto enqueue = [&](int, cudaStream_t on) {
    CheckLt(cublasLtMatmul_(handle, product, &one, w.as(), in, x.as(), in, &zero, y.as(), out, y.as(), out,
                            &best.algo, workspace.as(), kWorkspace, on),
            "the product");
  };
  return 2.0 * kSide * kSide * kSide / BurstSeconds({enqueue}, stream);
}

}  // namespace

LibraryFigure MeasureLibrary(const std::string& path, cudaStream_t stream) {
  try {
    return {FlopsOf(path, stream), "cuBLASLt, 8192^3 e4m3, scales of rows and outputs, fast accumulation"};
  } catch (const std::runtime_error& error) {
    return {0.0, error.what()};
  }
}
#else
LibraryFigure MeasureLibrary(const std::string&, cudaStream_t) { return {0.0, "built without cublasLt.h"}; }
#endif

}  // namespace sluice::bench
