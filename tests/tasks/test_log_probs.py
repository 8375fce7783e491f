"""What is told of log-probabilities, and what the settings do to the choice, against arithmetic on logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from support.steps import PagedTexts
from support.tiny_folders import VOCABULARY

import weft
from weft.ops.philox import uniform_f64
from weft.runtime import KvCache, compile
from weft.types import Array

PROMPT = [7, 30, 99, 200, 31]
PLAIN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "ignore_eos": True}


def logits_of(model: weft.Model, tokens: Sequence[int]) -> Array:
    """float64 [tokens, V] of a text of at most 64 tokens."""
    plan = model.plan(rows=64, purpose="logits")
    executable = compile(plan, model.pool, model._loaded.weights, {"cache": KvCache(model.cache.type, 8)})
    logits = executable.run(PagedTexts(8).step([(0, list(tokens))]))["logits"]
    return np.array(logits, np.float64)


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("wanted", [True, 0, 1, 5, 20])
@pytest.mark.parametrize("temperature", [0.0, 1.4])
def test_values_and_shapes(tiny: weft.Model, wanted: bool | int, temperature: float) -> None:
    out = tiny.generate([PROMPT], max_tokens=12, temperature=temperature, seed=1, logprobs=wanted, **PLAIN)[0]
    text = [*PROMPT, *out.token_ids]
    expected = log_softmax(logits_of(tiny, text))[len(PROMPT) - 1 : -1]
    assert out.logprobs is not None and len(out.logprobs) == len(out.token_ids) == 12
    np.testing.assert_allclose(out.logprobs, expected[np.arange(12), list(out.token_ids)], atol=2e-5)
    if wanted is True or wanted == 0:
        assert out.top_logprobs is None
        return
    assert out.top_logprobs is not None and len(out.top_logprobs) == 12
    for row, (token, top) in enumerate(zip(out.token_ids, out.top_logprobs, strict=True)):
        order = np.argsort(-expected[row], kind="stable")[:wanted]
        assert list(top) == order.tolist(), "the likeliest, best first"
        np.testing.assert_allclose(list(top.values()), expected[row][order], atol=2e-5)
        if token in top:
            assert top[token] == out.logprobs[row]
        if temperature == 0:
            assert token == order[0]


def test_they_are_the_models_own_whatever_the_settings(tiny: weft.Model) -> None:
    odd = {"temperature": 0.5, "top_k": 3, "logit_bias": {5: 9.0, 9: -100.0}, "repetition_penalty": 1.5,
           "presence_penalty": 1.0, "frequency_penalty": 0.5, "seed": 3, "ignore_eos": True}  # fmt: skip
    out = tiny.generate([PROMPT], max_tokens=15, logprobs=4, **odd)[0]
    scored = tiny.score([[*PROMPT, *out.token_ids]])[0][len(PROMPT) - 1 :]
    np.testing.assert_allclose(out.logprobs, scored, atol=2e-5)
    assert out.top_logprobs is not None
    plain = log_softmax(logits_of(tiny, PROMPT))[-1]
    assert list(out.top_logprobs[0]) == np.argsort(-plain, kind="stable")[:4].tolist()


def test_scores_are_those_of_generate(tiny: weft.Model) -> None:
    answers = tiny.generate(
        [PROMPT, PROMPT[:1]], max_tokens=30, temperature=1.0, seed=5, logprobs=True, **PLAIN
    )
    texts = [[*prompt, *out.token_ids] for prompt, out in zip((PROMPT, PROMPT[:1]), answers, strict=True)]
    for text, out, row in zip(texts, answers, tiny.score(texts), strict=True):
        assert row.dtype == np.float32 and row.shape == (len(text) - 1,)
        assert np.all(row <= 0)
        np.testing.assert_allclose(row[len(text) - 1 - 30 :], out.logprobs, atol=2e-5)
    assert tiny.score([[5]])[0].shape == (0,), "one token has nothing before it"


def choose(
    logits: Array, settings: Mapping[str, Any], text: Sequence[int], num_prompt: int, seed: int
) -> int:
    """The token that native/ops/sample.h describes, by the simplest arithmetic."""
    values = logits.copy()
    for token, bias in settings.get("logit_bias", {}).items():
        values[token] += bias
    repetition = settings.get("repetition_penalty", 1.0)
    for token in set(text):
        values[token] = values[token] / repetition if values[token] > 0 else values[token] * repetition
    answered = list(text[num_prompt:])
    for token in set(answered):
        values[token] -= settings.get("presence_penalty", 0.0)
        values[token] -= settings.get("frequency_penalty", 0.0) * answered.count(token)
    if settings["temperature"] == 0:
        return int(values.argmax())
    probabilities = np.exp(log_softmax(values / settings["temperature"]))
    order = np.argsort(-probabilities, kind="stable")
    kept = np.ones(len(values), bool)
    if settings.get("top_k"):
        kept[order[settings["top_k"] :]] = False
    ranked = np.where(kept, probabilities, 0)[order]
    before = np.cumsum(ranked) - ranked
    kept[order[before >= settings.get("top_p", 1.0) * ranked.sum()]] = False
    kept &= probabilities >= settings.get("min_p", 0.0) * probabilities.max()
    reached = np.cumsum(np.where(kept, probabilities, 0))
    share = uniform_f64(seed, 0, len(text))
    return int(np.searchsorted(reached, share * reached[-1], side="right"))


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0, "repetition_penalty": 1.8},
        {"temperature": 0.0, "presence_penalty": 2.0},
        {"temperature": 0.0, "frequency_penalty": 1.0},
        {"temperature": 0.0, "frequency_penalty": -1.0, "repetition_penalty": 0.8},
        {"temperature": 0.0, "logit_bias": {3: 2.0, 150: 5.0, 12: -100.0}},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.5, "top_p": 0.6},
        {"temperature": 1.2, "min_p": 0.2},
        {"temperature": 1.1, "top_k": 30, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.2,
         "presence_penalty": 0.3, "frequency_penalty": 0.2, "logit_bias": {7: 3.0, 30: -2.0}},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_settings_do(tiny: weft.Model, settings: dict[str, Any]) -> None:
    different = 0
    for seed in range(4):
        out = tiny.generate([PROMPT], max_tokens=24, seed=seed, **(PLAIN | settings))[0]
        text = [*PROMPT, *out.token_ids]
        logits = logits_of(tiny, text)
        for length in range(len(PROMPT), len(text)):
            chosen = choose(logits[length - 1], PLAIN | settings, text[:length], len(PROMPT), seed)
            different += chosen != text[length]
    # A draw beside a border of the distribution, or a near-tie, may round to the other side.
    assert different <= 1


def test_a_forbidden_token_never_comes(tiny: weft.Model) -> None:
    allowed = [5, 6, 7]
    bias = {token: -1e30 for token in range(VOCABULARY) if token not in allowed}
    out = tiny.generate(
        [PROMPT], max_tokens=60, temperature=1.0, seed=1, logit_bias=bias, logprobs=2, **PLAIN
    )[0]
    assert set(out.token_ids) == set(allowed)
    assert out.logprobs is not None and all(np.isfinite(out.logprobs))
