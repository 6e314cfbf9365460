#include "cli/joining_flags.h"

#include "comm/address.h"
#include "comm/job_secret.h"

namespace sluice::cli {
namespace {

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "lo" || host == "::1" || host.starts_with("127.");
}

}  // namespace

void AddJoiningFlags(CLI::App& app, LayoutFlags& f) {
  const char* parallel = "Layout";
  app.add_option("--nnodes", f.nnodes, "Hosts")->group(parallel);
  app.add_option("--node-rank", f.node_rank, "This host, 0 to nnodes - 1; 0 serves")->group(parallel);
  app.add_option("--dist-init-addr,--nccl-init-addr", f.dist_init_addr, "host:port where ranks meet")
      ->group(parallel);
  app.add_option("--dist-timeout", f.dist_timeout_seconds, "Seconds in which all ranks must have met")
      ->group(parallel);
  app.add_option("--data-plane-addr", f.data_plane_addr,
                 "Address of this host that other hosts' ranks connect to")
      ->group(parallel);
  app.add_option("--job-secret-file", f.job_secret_file,
                 "File with the secret by which ranks know one another, the same on every host; or set "
                 "SLUICE_JOB_SECRET")
      ->group(parallel);
}

void CheckJoining(const LayoutFlags& f) {
  const auto secret = comm::GivenSecret(f.job_secret_file);
  if (f.dist_timeout_seconds < 1 || f.dist_timeout_seconds > 86400) {
    Fail(ErrorKind::kUsage, "--dist-timeout {} is out of range: use 1 to 86400 seconds",
         f.dist_timeout_seconds);
  }
  if (!f.dist_init_addr.empty() && comm::IsEveryInterface(comm::ParseAddress(f.dist_init_addr).host)) {
    Fail(ErrorKind::kUsage,
         "--dist-init-addr {} would listen on every interface: give the one address of node 0 that the other "
         "nodes reach",
         f.dist_init_addr);
  }
  if (comm::IsEveryInterface(f.data_plane_addr)) {
    Fail(ErrorKind::kUsage,
         "--data-plane-addr {} is every interface: give the one address or interface of this host that the "
         "other nodes reach",
         f.data_plane_addr);
  }
  if (f.nnodes == 1) return;
  if (f.dist_init_addr.empty()) {
    Fail(ErrorKind::kUsage, "--nnodes {} needs --dist-init-addr host:port, the same on every node", f.nnodes);
  }
  if (IsLoopback(f.data_plane_addr) && !IsLoopback(comm::ParseAddress(f.dist_init_addr).host)) {
    Fail(
        ErrorKind::kUsage,
        "the ranks of other hosts cannot reach --data-plane-addr {}: give this host's own address or network "
        "interface",
        f.data_plane_addr);
  }
  if (!secret.has_value()) {
    Fail(
        ErrorKind::kUsage,
        "--nnodes {} needs a secret by which the nodes know one another: make one with "
        "`openssl rand -hex 32` and give every node the same, in the environment variable {} or in a file of "
        "mode 600 with --job-secret-file",
        f.nnodes, comm::kSecretVariable);
  }
}

}  // namespace sluice::cli
