# Sourced by ./demo and ./check: makes sure the distribution's packages that the build needs are there.
# Says what it will install before it does; on a system it does not know it changes nothing.

sluice_packages=(
  g++ cmake ninja-build pkg-config
  libgloo-dev libhwy-dev libboost1.74-dev libssl-dev openssl nlohmann-json3-dev libsimdjson-dev
  libcli11-dev libtomlplusplus-dev libspdlog-dev libfmt-dev libpcre2-dev prometheus-cpp-dev
  zlib1g-dev libgtest-dev libgmock-dev python3 iproute2
)

ensure_packages() {
  local wanted=("${sluice_packages[@]}" "$@") missing=() package
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    local tool absent=()
    for tool in g++ cmake ninja pkg-config; do command -v "$tool" >/dev/null || absent+=("$tool"); done
    if ((${#absent[@]} > 0)); then
      echo "This system is not Debian or Ubuntu, so nothing was installed; missing: ${absent[*]}, and the libraries of ${wanted[*]} must be there too." >&2
      exit 1
    fi
    return 0
  fi
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return 0
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing and need root to install: ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "Installing packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
