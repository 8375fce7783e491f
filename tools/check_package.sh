#!/usr/bin/env bash
# Builds the source package, from it the wheel, and installs that into an environment of its own: checks what a
# user gets. README and licence are in, one extension holds the kernels of every instruction set, sizes and
# the import keep their bounds, and the installed command answers. Needs the package index, for the dependencies.
#
# PYTHON builds and makes the environment (default: .venv's); WORK is the folder to work in (default: a new one,
# removed at the end).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
if [ -z "${WORK:-}" ]; then
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"
own_limit_mb=15
all_limit_mb=150
import_limit_ms=200

fail() { echo "check_package: $*" >&2; exit 1; }
megabytes() { du -sm --apparent-size "$@" | awk '{total += $1} END {print total}'; }

# The source package, and what is in it.
(cd "$root" && "$python" -c "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])" "$WORK")
source_package=$(ls "$WORK"/weft-*.tar.gz)
sources=$(tar tzf "$source_package")
for file in README.md LICENSE CMakeLists.txt pyproject.toml src/weft/__init__.py native/bind/module.cc; do
  grep -q "/$file$" <<<"$sources" || fail "expected $file in $source_package, it is not there"
done

# The wheel from it, with the build tools that are here.
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  --config-settings build-dir="$WORK/build" --wheel-dir "$WORK" "$source_package"
wheel=$(ls "$WORK"/weft-*.whl)
contents=$(unzip -l "$wheel")
[ "$(grep -c 'weft/_native.*\.so$' <<<"$contents")" = 1 ] || fail "expected one extension in $wheel"
grep -qE ' (tests|benchmarks|native)/' <<<"$contents" && fail "expected only the package in $wheel, got more"
for file in "$root"/src/weft/server/static/*; do
  grep -q "weft/server/static/$(basename "$file")$" <<<"$contents" || fail "expected the page's $(basename "$file") in $wheel"
done
grep -q '^# weft' <<<"$(unzip -p "$wheel" '*.dist-info/METADATA')" || fail "expected the README in the metadata of $wheel"

# An environment of its own, with what the wheel needs.
"$python" -m venv --without-pip "$WORK/venv"
site=$("$WORK/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
"$python" -m pip --python "$WORK/venv/bin/python" install --quiet --disable-pip-version-check "$wheel"
own=$(megabytes "$site"/weft "$site"/weft-*.dist-info)
all=$(megabytes "$site")
[ "$own" -lt $own_limit_mb ] || fail "expected weft itself below $own_limit_mb MB, it takes $own"
[ "$all" -lt $all_limit_mb ] || fail "expected the installation below $all_limit_mb MB, it takes $all"
[ -e "$site/torch" ] && fail "expected an installation without torch"

# One extension with every set of kernels: instructions that only one of them has, and what can run here runs.
extension=$(ls "$site"/weft/_native*.so)
if [ "$(uname -m)" = x86_64 ]; then
  objdump --disassemble --no-show-raw-insn "$extension" >"$WORK/code"
  for instruction in 'vfmadd.*%ymm' 'vpdpbusd.*%zmm' 'vdpbf16ps.*%zmm'; do
    grep -q "$instruction" "$WORK/code" || fail "expected kernels that use $instruction in $extension"
  done
fi

# Older processors, emulated: the same wheel takes the kernels that they have, and refuses those that they lack.
if [ "$(uname -m)" = x86_64 ] && command -v qemu-x86_64 >/dev/null; then
  for processor in Nehalem:portable Haswell:avx2; do
    on_it() { PYTHONPATH=$site qemu-x86_64 -cpu "${processor%:*}" "$(readlink -f "$WORK/venv/bin/python")" -m weft "$@"; }
    found=$(on_it info --json 2>/dev/null | "$python" -c "import json, sys; print(json.load(sys.stdin)['isa'])")
    [ "$found" = "${processor#*:}" ] || fail "expected ${processor#*:} kernels on a ${processor%:*}, got $found"
    ! WEFT_ISA=avx512 on_it info >/dev/null 2>&1 || fail "expected avx512 kernels refused on a ${processor%:*}"
  done
fi

# The command answers, away from the sources.
cd "$WORK"
import_ms=$("$WORK/venv/bin/python" -c "import time; begin = time.process_time(); import weft
print(round(1000 * (time.process_time() - begin)))")
[ "$import_ms" -lt $import_limit_ms ] || fail "expected import weft within $import_limit_ms ms of the processor, it took $import_ms"
export WEFT_HOME=$WORK/home
weft=$WORK/venv/bin/weft
"$weft" info
PYTHONPATH=$root "$python" -c "import sys; from pathlib import Path; from tests.support.tiny_folder import write_tiny_folder
write_tiny_folder(Path(sys.argv[1]))" "$WORK/model"
for isa in portable $("$weft" info --json | "$python" -c "import json, sys; print(*json.load(sys.stdin)['isa_available'])"); do
  text=$(WEFT_ISA=$isa "$weft" generate -m "$WORK/model" -p "The loom" -n 8 --temp 0 --ignore-eos --json -q)
  [ -n "$text" ] || fail "expected an answer with $isa kernels, got none"
done
echo "check_package: $(basename "$wheel") of $(du -k "$wheel" | cut -f1) KB; installed: weft $own MB, all $all MB; import weft $import_ms ms"
