"""Tests of operations and of whole answers again, with each other instruction set of this machine.

The C++ tests compare every kernel of every set by themselves; these see what Python makes of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.native_plans import other_isas

TESTS = Path(__file__).parents[1]
FILES = (
    "ops/test_cross_entropy.py",
    "ops/test_low_rank.py",
    "ops/test_lstm.py",
    "ops/test_native_ops.py",
    "ops/test_training_products.py",
    "ops/test_training_rows.py",
    "tasks/test_same_bits.py",
    "train/test_optimizer_kernel.py",
)
# Of whole answers one model a kind of product: with pairs of bfloat16 and with integers.
CHOSEN = "not test_same_bits or (llama and bf16) or (gpt2 and q4) or long_context or real_model"


def run_tests(isa: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    run = subprocess.run(command, env=os.environ | {"WEFT_ISA": isa}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]


@pytest.mark.parametrize("isa", other_isas())
def test_the_same_holds_with(isa: str) -> None:
    run_tests(isa, "-k", CHOSEN, *(str(TESTS / name) for name in FILES))


@pytest.mark.soak
@pytest.mark.parametrize("isa", other_isas())
def test_all_whole_answers_with(isa: str) -> None:
    run_tests(isa, str(TESTS / "tasks/test_same_bits.py"))
