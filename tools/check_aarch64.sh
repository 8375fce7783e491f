#!/usr/bin/env bash
# Compiles the native core for aarch64, and runs its tests in qemu's user mode. Fails on a failing build or test;
# says so and succeeds where the compiler is missing, and builds only where qemu is.
#
# BUILD is the folder to build in (default: build/aarch64), JOBS the compilers at once, TESTS which native tests to
# run (default: *, as in test_*), LIMIT the seconds that each may take (default: 1800).
# Debian: g++-aarch64-linux-gnu, qemu-user.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
[ -d "$root/.venv/bin" ] && PATH=$root/.venv/bin:$PATH
tests=${TESTS:-*}
build=${BUILD:-$root/build/aarch64}
compiler=aarch64-linux-gnu-g++

if ! command -v $compiler >/dev/null; then
  echo "skipped: $compiler is not installed (Debian: g++-aarch64-linux-gnu)"
  exit 0
fi
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)

cmake -S "$root" -B "$build" -G Ninja -DWEFT_TESTS=ON -DWEFT_EXTENSION=OFF -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$compiler \
  ${emulator:+"-DCMAKE_CROSSCOMPILING_EMULATOR=$emulator;-L;/usr/aarch64-linux-gnu"}
cmake --build "$build" -j "${JOBS:-$(nproc)}"
if [ -z "$emulator" ]; then
  echo "built; skipped the tests: qemu-aarch64 is not installed (Debian: qemu-user)"
  exit 0
fi
# qemu 7.2 ends with an assertion of its own in the child of a threaded process that forks: that test is skipped.
WEFT_TEST_EMULATED=1 ctest --test-dir "$build" --output-on-failure --timeout "${LIMIT:-1800}" --no-tests=error -R "^test_${tests//\*/.*}\$"
