"""What a process that answers holds in memory: its file, its KV cache and little beside."""

from __future__ import annotations

import subprocess
import sys

import pytest

import weft
from weft.types import BLOCK_TOKENS

PROMPT_TOKENS, ANSWER_TOKENS = 16, 128
BESIDE_MB = 80

PROGRAM = f"""
import sys, weft
model = weft.load(sys.argv[1], threads=2)
prompt = list(range(100, 100 + {PROMPT_TOKENS}))
model.generate([prompt], max_tokens={ANSWER_TOKENS}, temperature=0.0, ignore_eos=True)
fields = dict(line.split(":") for line in open("/proc/self/status"))
print(fields["VmRSS"].split()[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
def test_one_request_takes_little_beside_the_file_and_the_cache(smollm2: weft.Model) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(smollm2.path)], capture_output=True, text=True, check=True
    )
    blocks = -(-(PROMPT_TOKENS + ANSWER_TOKENS) // BLOCK_TOKENS)
    cache_bytes = blocks * BLOCK_TOKENS * smollm2.cache.type.token_bytes * smollm2.cache.type.layers
    beside_bytes = int(done.stdout) * 1024 - smollm2.path.stat().st_size - cache_bytes
    assert beside_bytes < BESIDE_MB * 1e6, f"{beside_bytes / 1e6:.0f} MB"
