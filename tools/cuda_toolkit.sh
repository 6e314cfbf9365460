# shellcheck shell=bash
# Sourced by ./check, ./demo and tools/gpu_check: which build tree this machine has.

# Whether there is a CUDA toolkit with NCCL's header beside it or in the usual places.
has_cuda_with_nccl() {
  local nvcc
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  [[ -x $nvcc ]] || return 1
  echo '#include <nccl.h>' | c++ -E -x c++ -I"$(dirname "$(dirname "$(readlink -f "$nvcc")")")/include" - >/dev/null 2>&1
}

# The preset of the one tree in which everything is built and tested: with the GPU back end where it can be built.
build_preset() {
  if has_cuda_with_nccl; then echo cuda; else echo release; fi
}
