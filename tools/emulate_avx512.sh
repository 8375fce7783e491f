#!/usr/bin/env bash
# Runs the native tests with the AVX-512 kernels emulated by SIMDe, on machines that have AVX2 alone. Fails on
# a failing test; says so and succeeds where SIMDe or AVX2 is missing.
#
# BUILD is the folder to build in (default: build/avx512), JOBS the compilers at once, TESTS which native tests to
# run (default: *, as in test_*), LIMIT the seconds that each may take (default: 900). SIMDe: libsimde-dev.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
[ -d "$root/.venv/bin" ] && PATH=$root/.venv/bin:$PATH
tests=${TESTS:-*}
build=${BUILD:-$root/build/avx512}

if ! echo '#include <simde/x86/avx512.h>' | c++ -x c++ -std=c++20 -fsyntax-only - 2>/dev/null; then
  echo "skipped: SIMDe's headers are not installed (Debian: libsimde-dev)"
  exit 0
fi
if ! grep -qw avx2 /proc/cpuinfo; then
  echo "skipped: this processor lacks AVX2, over which AVX-512 is emulated"
  exit 0
fi

cmake -S "$root" -B "$build" -G Ninja -DWEFT_TESTS=ON -DWEFT_EXTENSION=OFF -DWEFT_EMULATE_AVX512=ON
cmake --build "$build" -j "${JOBS:-$(nproc)}"
# The tests run every set of kernels that is available; forced, so that a build without avx512 is refused.
WEFT_ISA=avx512 ctest --test-dir "$build" --output-on-failure --timeout "${LIMIT:-900}" --no-tests=error -R "^test_${tests//\*/.*}\$"
