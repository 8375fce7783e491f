#!/usr/bin/env bash
# Builds the native core and its tests with ThreadSanitizer, and with AddressSanitizer and UBSan, and runs
# them; with a Python script also that script, on the instrumented extension. Fails on any finding.
#
#   tools/sanitize.sh [thread|address|all] [SCRIPT.py [ARGUMENT...]]
#
# PYTHON is the interpreter that has the project's build and run requirements (default: python3), BUILD the
# folder to build in (default: build/sanitize), JOBS the compilers at once, TESTS which native tests to run
# (default: *, as in test_*; none with -), LIMIT the seconds that each and the script may take (default: 1800).
# A script that is to show races must overlap long native calls of several threads, started from a barrier:
# between short calls the interpreter's lock orders what it should not.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
which=${1:-all}
[ $# -gt 0 ] && shift
script=("$@")
python=$(command -v "${PYTHON:-python3}")
build=${BUILD:-$root/build/sanitize}
jobs=${JOBS:-$(nproc)}
tests=${TESTS:-*}
limit=${LIMIT:-1800}
findings='WARNING: ThreadSanitizer|ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|Sanitizer:DEADLYSIGNAL'

# Colons separate the options of a sanitizer.
export TSAN_OPTIONS="exitcode=66:history_size=4:second_deadlock_stack=1:suppressions=$root/tools/tsan.supp"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"

configure() {  # folder, -fsanitize= value
  cmake -S "$root" -B "$1" -G Ninja -DWEFT_TESTS=ON -DWEFT_SANITIZE="$2" \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPython_EXECUTABLE="$python" >"$1.configure.log" 2>&1 ||
    { cat "$1.configure.log"; exit 1; }
}

check() {  # name of the log, command...
  local log=$1 status=0
  shift
  "$@" >"$log" 2>&1 || status=$?
  if [ $status -ne 0 ] || grep -Eq "$findings" "$log"; then
    grep -E -m 1 -A 40 "$findings" "$log" || tail -n 40 "$log"
    echo "FAILED (exit $status): $*; all of it in $log"
    return 1
  fi
}

# What is to be built: the tests that are run, and the extension for a script.
targets() {
  local source
  for source in "$root"/tests/native/test_$tests.cc; do
    [ -f "$source" ] && basename "$source" .cc
  done
  [ ${#script[@]} -eq 0 ] || echo _native
}

native_tests() {  # folder
  local failed=0 test
  for test in "$1"/test_$tests; do
    [ -x "$test" ] && [ -f "$test" ] || continue
    check "$test.log" timeout "$limit" setarch -R "$test" || failed=1
    [ $failed -eq 1 ] || echo "  clean: $(basename "$test")"
  done
  return $failed
}

# The package as folders of links beside the instrumented extension.
link_package() {  # folder
  rm -rf "$1/package"
  mkdir -p "$1/package/weft"
  ln -s "$root"/src/weft/* "$1/package/weft/"
  rm -f "$1"/package/weft/_native*
  ln -s "$1"/_native*.so "$1/package/weft/"
}

# Runs a script on the package in PYTHONPATH. An editable install would come before it, with an extension that is
# not instrumented, and nothing would be found.
runner='
import os, runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
import weft._native
package = os.environ["PYTHONPATH"]
assert weft._native.__file__.startswith(package), f"expected weft of {package}, got {weft._native.__file__}"
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
'

python_script() {  # folder, name of the run-time library
  [ ${#script[@]} -gt 0 ] || return 0
  link_package "$1"
  # The interpreter keeps its memory to the end on purpose: leaks are looked for in the native tests.
  ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}" check "$1/script.log" \
    timeout "$limit" env PYTHONPATH="$1/package" PYTHONMALLOC=malloc \
    LD_PRELOAD="$(g++ -print-file-name="$2") $(g++ -print-file-name=libstdc++.so)" \
    setarch -R "$python" -c "$runner" "${script[@]}" || return 1
  echo "  clean: ${script[*]}"
}

one() {  # name, -fsanitize= value, run-time library
  echo "$1 sanitizer"
  local folder=$build-$1
  mkdir -p "$folder"
  configure "$folder" "$2"
  # Warnings that only instrumented code draws are not errors here.
  local wanted
  mapfile -t wanted < <(targets)
  [ ${#wanted[@]} -gt 0 ] || { echo "expected a test like test_$tests or a script, got neither" >&2; exit 2; }
  cmake --build "$folder" -j "$jobs" --target "${wanted[@]}" >"$folder.build.log" 2>&1 ||
    { tail -n 60 "$folder.build.log"; exit 1; }
  native_tests "$folder"
  python_script "$folder" "$3"
}

case $which in
  thread) one thread thread libtsan.so ;;
  address) one address address,undefined libasan.so ;;
  all)
    one thread thread libtsan.so
    one address address,undefined libasan.so
    ;;
  *)
    echo "expected thread, address or all, got '$which'" >&2
    exit 2
    ;;
esac
echo "no findings"
