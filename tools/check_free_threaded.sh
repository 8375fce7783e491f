#!/usr/bin/env bash
# Builds weft for a CPython without its global lock and runs there what needs no other package than NumPy:
# models and pools from many threads at once, the pool's tests, operations and plans. Fails on a failing check;
# says so and succeeds where there is no such Python.
#
# FREE_THREADED is that interpreter (default: python3.13t), WORK the folder for its environment (default:
# build/free-threaded). Needs the package index.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
interpreter=$(command -v "${FREE_THREADED:-python3.13t}" || true)
work=${WORK:-$root/build/free-threaded}
if [ -z "$interpreter" ] || ! "$interpreter" -c 'import sys; sys.exit(sys._is_gil_enabled())' 2>/dev/null; then
  echo "skipped: no Python without a global lock (python3.13t); FREE_THREADED names one"
  exit 0
fi

mkdir -p "$work"
[ -x "$work/venv/bin/python" ] || "$interpreter" -m venv "$work/venv"
python=$work/venv/bin/python
pip() { "$python" -m pip --disable-pip-version-check install --quiet "$@"; }
# NumPy 2.4 has no wheel for 3.13t; nothing here is to be compiled but weft.
pip --only-binary :all: 'numpy<2.4' pytest hypothesis
pip --no-deps "$root"

rm -rf "$work/models"
"$root/.venv/bin/python" "$root/tools/free_threaded.py" write "$work/models"
cd "$root" # its tests; weft itself is the installed one
"$python" "$root/tools/free_threaded.py" check "$work/models"
# Tests of operations that need torch are left out: it has no wheel for every such Python.
"$python" -m pytest -q -p no:cacheprovider tests/threads tests/plan $(grep -L torch tests/ops/test_*.py)
