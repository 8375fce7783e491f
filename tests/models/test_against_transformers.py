"""Every family of models, as plans on NumPy and on torch, against transformers in float32."""

from __future__ import annotations

import numpy as np
import pytest
from support import tiny_models
from support.plain_weight import plain_model
from support.steps import PagedTexts

from weft.models import build_plan
from weft.plan.reference import ReferenceExecutable
from weft.torch_runtime import TorchExecutable

TOKENS = np.random.default_rng(5).integers(0, 101, 70).tolist()


@pytest.mark.parametrize("name", tiny_models.MODELS)
@pytest.mark.parametrize("executable", [ReferenceExecutable, TorchExecutable])
def test_logits_equal_those_of_transformers(name, executable):
    model = tiny_models.make(name)
    config, weights = plain_model(model)
    plan = build_plan(config, weights, rows=80, outputs=80, purpose="logits", context=len(TOKENS))
    run = executable(plan, weights, num_blocks=8).run
    texts = PagedTexts(8)
    # The text comes in chunks beside another one, so that the cache and its blocks are used.
    got = [run(texts.step([(0, TOKENS[:5])]))["logits"]]
    got.append(run(texts.step([(1, TOKENS[10:20]), (0, TOKENS[5:40])]))["logits"][10:])
    got.append(run(texts.step([(0, TOKENS[40:69]), (1, TOKENS[20:22])]))["logits"][:29])
    got.append(run(texts.step([(0, TOKENS[69:])]))["logits"])
    expected = tiny_models.logits(model, TOKENS)
    np.testing.assert_allclose(np.concatenate(got), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_scores_are_log_probabilities(name):
    model = tiny_models.make(name)
    config, weights = plain_model(model)
    plan = build_plan(config, weights, rows=80, outputs=80, purpose="score")
    inputs = dict(PagedTexts(8).step([(0, TOKENS)]))
    inputs["targets"] = np.array([*TOKENS[1:], 3], np.int32).reshape(-1, 1)
    got = ReferenceExecutable(plan, weights).run(inputs)["log_probs"][:, 0]
    logits = tiny_models.logits(model, TOKENS).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = expected[np.arange(len(TOKENS)), inputs["targets"][:, 0]]
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_after_the_last_attention_only_wanted_rows_go_on(name):
    config, weights = plain_model(tiny_models.make(name))
    plan = build_plan(config, weights, rows=80, outputs=80, purpose="logits")
    last = max(place for place, node in enumerate(plan.nodes) if node.op.name == "attention")
    assert {value.type.rows for node in plan.nodes[last + 1 :] for value in node.outputs} == {"outputs"}
    run = ReferenceExecutable(plan, weights, num_blocks=8).run
    all_rows = run(PagedTexts(8).step([(0, TOKENS), (1, TOKENS[:9])]))["logits"]
    wanted = dict(PagedTexts(8).step([(0, TOKENS), (1, TOKENS[:9])]))
    for rows in ([], [len(TOKENS) - 1], [3, len(TOKENS) + 8]):
        wanted["output_rows"] = np.array(rows, np.int32).reshape(-1, 1)
        np.testing.assert_allclose(run(wanted)["logits"], all_rows[rows], atol=1e-4)
