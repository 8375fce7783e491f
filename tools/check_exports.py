"""Exports a model and holds that others answer as weft does: transformers its folder, llama.cpp its GGUF.

    python tools/check_exports.py MODEL [--llama PYTHON] [--tokens N]

MODEL: a name, folder or run. PYTHON: an interpreter with llama-cpp-python, if not this one.
Greedy tokens after a few prompts, all in float32; exits with 1 where they differ. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import weft
from weft.tasks.export import export_folder, export_gguf_file

PROMPTS = ("The loom weaves", "def main(arguments):\n    ", "In the year 1900 the city")
LLAMA = """
import json, sys
import llama_cpp
path, count, prompts = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
model = llama_cpp.Llama(path, n_ctx=512, n_threads=2, verbose=False, type_k=0, type_v=0)
answers = []
for prompt in prompts:
    model.reset()
    stream = model.generate(prompt, temp=0.0, repeat_penalty=1.0)
    answers.append([token for token, _ in zip(stream, range(count))])
print(json.dumps(answers))
"""


def by_weft(folder: Path, count: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts as tokens, and the greedy tokens after each."""
    with weft.load(folder, quant="f32", kv_dtype="f32", threads=2) as model:
        prompts = [list(map(int, model.tokenizer.encode(prompt))) for prompt in PROMPTS]
        answers = model.generate(
            prompts, temperature=0, repetition_penalty=1.0, max_tokens=count, ignore_eos=True
        )
        return prompts, [list(answer.token_ids) for answer in answers]


def by_transformers(folder: Path, prompts: list[list[int]], count: int) -> list[list[int]]:
    """The same by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers = []
    for prompt in prompts:
        settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
        out = model.generate(torch.tensor([prompt]), **settings, repetition_penalty=1.0, eos_token_id=None)
        answers.append(out[0, len(prompt) :].tolist())
    return answers


def by_llama(python: str, path: Path, prompts: list[list[int]], count: int) -> list[list[int]]:
    """The same by llama.cpp."""
    command = [python, "-c", LLAMA, str(path), str(count), json.dumps(prompts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--llama", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, file = Path(place) / "folder", Path(place) / "model.gguf"
        export_folder(options.model, folder, "float32")
        export_gguf_file(options.model, file, "f32")
        prompts, expected = by_weft(folder, options.tokens)
        others = {
            "transformers": by_transformers(folder, prompts, options.tokens),
            "llama.cpp": by_llama(options.llama, file, prompts, options.tokens),
        }
    same = {name: answers == expected for name, answers in others.items()}
    for name, answers in others.items():
        if answers != expected:
            print(f"{name}: expected {expected}, got {answers}", file=sys.stderr)
    print(json.dumps({"model": options.model, "tokens": options.tokens * len(PROMPTS), "same": same}))
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
