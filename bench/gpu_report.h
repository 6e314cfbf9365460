#pragma once

#include <CLI/App.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

// What the pages of figures of all benchmarks of GPU kernels have.
namespace sluice::bench {

// What the driver calls GPU 0.
std::string GpuName();

// The flag --json.
void AddJsonFlag(CLI::App& app, std::string& path);
// Where that flag says; nothing without it. Error(kUsage): the file cannot be written.
void WriteFigures(const std::string& path, const nlohmann::json& figures);

}  // namespace sluice::bench
