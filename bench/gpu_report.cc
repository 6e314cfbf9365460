#include "gpu_report.h"

#include <cuda_runtime.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/cuda/check.h"

namespace sluice::bench {

std::string GpuName() {
  cudaDeviceProp properties{};
  ops::cuda::Check(cudaGetDeviceProperties(&properties, 0), "asking what GPU 0 is");
  return properties.name;
}

void AddJsonFlag(CLI::App& app, std::string& path) {
  app.add_option("--json", path, "A file for the figures.");
}

void WriteFigures(const std::string& path, const nlohmann::json& figures) {
  if (path.empty()) return;
  std::ofstream file(path);
  file << figures.dump(1) << "\n";
  file.close();
  if (!file) Fail(ErrorKind::kUsage, "--json: {} cannot be written", path);
}

}  // namespace sluice::bench
