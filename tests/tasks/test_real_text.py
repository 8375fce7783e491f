"""The real model on real text against transformers in float32 on the numbers that its file stands for."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from support.float32_oracle import load_oracle, oracle_log_softmax, oracle_scores

import weft
from weft.types import Array

# Prose and code that every interpreter carries, in words that differ a little from version to version.
TEXT = f"{inspect.getdoc(argparse)}\n{inspect.getsource(textwrap.wrap)}"
NUM_TOKENS = 256
PROMPTS = ("The loom is", "def add(a, b):\n", "Once upon a time")
NUM_ANSWERED = 24


@dataclass(frozen=True)
class Distance:
    """How far a kind of weights lies from the oracle, in natural-log probability; measured on avx2, int8 on
    avx512.

    mean, largest: of the text's tokens. tie: how far a token of a greedy answer lay below the oracle's best
    in the same context. equal: the share of those tokens that were the oracle's best.
    """

    mean: float
    largest: float
    tie: float
    equal: float


MEASURED = {
    "f32": Distance(mean=0.00065, largest=0.0065, tie=0.0, equal=1.0),
    "bf16": Distance(mean=0.0083, largest=0.186, tie=0.016, equal=71 / 72),
    "q8": Distance(mean=0.069, largest=1.56, tie=0.068, equal=70 / 72),
    "int8": Distance(mean=0.103, largest=0.73, tie=0.144, equal=71 / 72),
    "q4": Distance(mean=0.30, largest=2.08, tie=1.18, equal=62 / 72),
    "file": Distance(mean=0.061, largest=0.67, tie=0.044, equal=70 / 72),
}
# Another interpreter's words, other kernels and another torch may lie this much further away.
MEAN_MARGIN = 2
LARGEST_MARGIN = 3
EQUAL_MARGIN = 0.1


@pytest.fixture(scope="module")
def oracle(smollm2: weft.Model) -> Any:
    pytest.importorskip("transformers", reason="transformers is missing; it is the oracle")
    return load_oracle(smollm2.path)


@pytest.fixture(scope="module")
def tokens(smollm2: weft.Model) -> list[int]:
    tokens = smollm2.tokenizer.encode(TEXT)[:NUM_TOKENS]
    assert len(tokens) == NUM_TOKENS
    return tokens


@pytest.fixture(scope="module")
def expected(oracle: Any, tokens: list[int]) -> Array:
    return oracle_scores(oracle, tokens)


@pytest.fixture(scope="module", params=MEASURED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(kind: str, smollm2: weft.Model) -> Iterator[weft.Model]:
    with weft.load(smollm2.path, threads=2, quant=None if kind == "file" else kind) as loaded:
        yield loaded


def test_log_probabilities(model: weft.Model, kind: str, tokens: list[int], expected: Array) -> None:
    difference = np.abs(model.score([tokens])[0] - expected)
    measured = MEASURED[kind]
    assert difference.mean() < MEAN_MARGIN * measured.mean
    assert difference.max() < LARGEST_MARGIN * measured.largest


def test_greedy_answers_leave_the_oracles_at_near_ties_alone(
    model: weft.Model, kind: str, oracle: Any
) -> None:
    begins = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    answers = model.generate(begins, max_tokens=NUM_ANSWERED, temperature=0.0, ignore_eos=True)
    gaps = np.concatenate([_gaps(oracle, *pair) for pair in zip(begins, answers, strict=True)])
    assert gaps.shape == (len(PROMPTS) * NUM_ANSWERED,)
    measured = MEASURED[kind]
    # A tie is never closer than what the mean difference of two log-probabilities may turn round.
    assert gaps.max() < max(LARGEST_MARGIN * measured.tie, 2 * LARGEST_MARGIN * measured.mean)
    assert (gaps == 0).mean() > measured.equal - EQUAL_MARGIN


def _gaps(oracle: Any, begin: list[int], answer: weft.Completion) -> Array:
    """How far each token of the answer lies below the oracle's best after the same tokens: 0 for its own."""
    rows = oracle_log_softmax(oracle, [*begin, *answer.token_ids])[len(begin) - 1 : -1]
    return rows.max(axis=1) - rows[np.arange(len(rows)), list(answer.token_ids)]
