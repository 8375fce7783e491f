"""Runs of a plan in one call, each fed by the one before: equal to runs one by one, and bad calls refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.tiny_folders import write_llama

import weft
from weft import ops
from weft.errors import ConfigError
from weft.ops.sample import INT_SETTINGS, REAL_SETTINGS
from weft.plan import Recorder, freeze
from weft.runtime import compile
from weft.types import BLOCK_TOKENS, Array, DType

STEPS, TEXTS = 5, 3
STACKED = ("positions", "slots", "sequences", "output_rows", "real_settings", "int_settings")


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with weft.load(write_llama(tmp_path_factory.mktemp("m") / "llama"), threads=2) as model:
        yield model.engine._runner.executable("generate")  # type: ignore[attr-defined]


def inputs(steps: list[int], tokens: Array) -> dict[str, Array]:
    """Rows of `steps` of as many texts as `tokens` begin; text n has block n + 1 of the cache."""
    texts = np.tile(np.arange(TEXTS, dtype=np.int32), len(steps))
    position = np.repeat(np.array(steps, np.int32), TEXTS)
    ints = np.zeros((len(texts), len(INT_SETTINGS)), np.int32)
    ints[:, INT_SETTINGS.index("position")] = position + 1
    none = {"history": np.int32, "bias_ids": np.int32, "bias_values": np.float32, "mask_words": np.uint32}
    return {
        "tokens": tokens.reshape(-1, 1),
        "positions": position[:, None].copy(),
        "slots": ((texts + 1) * BLOCK_TOKENS + position)[:, None],
        "sequences": np.stack([texts, np.ones_like(texts), position, texts], axis=1),
        "block_table": np.arange(1, TEXTS + 1, dtype=np.int32)[:, None],
        "output_rows": texts[:, None].copy(),
        "real_settings": np.tile(_real_settings(), (len(texts), 1)),
        "int_settings": ints,
        **{name: np.zeros((0, 1), dtype) for name, dtype in none.items()},
    }


def _real_settings() -> Array:
    values = {"temperature": 0.9, "top_p": 1.0, "repetition_penalty": 1.0}
    return np.array([values.get(name, 0.0) for name in REAL_SETTINGS], np.float32)


BEGIN = np.array([3, 4, 5], np.int32)


@pytest.fixture(scope="module")
def one_by_one(executable: Any) -> list[dict[str, Array]]:
    tokens, runs = BEGIN, []
    for step in range(STEPS):
        runs.append(executable.run(inputs([step], tokens)))
        tokens = runs[-1]["tokens"]
    return runs


def test_a_chain_equals_its_runs(executable: Any, one_by_one: list[dict[str, Array]]) -> None:
    chained = executable.run_chain(inputs([*range(STEPS)], BEGIN), STEPS, STACKED, "tokens")
    for name, value in chained.items():
        assert value.tobytes() == np.concatenate([run[name] for run in one_by_one]).tobytes(), name


def test_an_end_makes_a_run_the_last(executable: Any, one_by_one: list[dict[str, Array]]) -> None:
    drawn = np.stack([run["tokens"][:, 0] for run in one_by_one])
    new = [step for step in range(1, STEPS) if not np.isin(drawn[step], drawn[:step]).all()]
    end = drawn[new[0]][~np.isin(drawn[new[0]], drawn[: new[0]])][0]
    chained = executable.run_chain(inputs([*range(STEPS)], BEGIN), STEPS, STACKED, "tokens", [int(end)])
    assert chained["tokens"][:, 0].tolist() == drawn[: new[0] + 1].ravel().tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_runs": 0}, "at least one run, got 0"),
        ({"num_runs": 4}, "expects the rows of 4 runs, got 15 rows"),
        ({"fed": "slots"}, "'slots' is not an output"),
        ({"fed": "log_probs"}, "'log_probs' is not an input"),
        ({"stacked": ("slots", "weather")}, "'weather' is not an input"),
        ({"stacked": ()}, "disagree on"),
    ],
)
def test_bad_chains_are_refused(executable: Any, change: dict[str, Any], message: str) -> None:
    call = {"num_runs": STEPS, "stacked": STACKED, "fed": "tokens"} | change
    with pytest.raises(ConfigError, match=message):
        executable.run_chain(inputs([*range(STEPS)], BEGIN), **call)


def test_only_numbers_are_fed() -> None:
    recorder = Recorder({})
    x = recorder.input("x", columns=8, dtype=DType.F32)
    recorder.output("x", ops.add(x, x))
    with weft.Pool(threads=1) as pool:
        doubles = compile(freeze(recorder.finish(), {"rows": 2}), pool, {})
        with pytest.raises(ConfigError, match="feeds i32"):
            doubles.run_chain({"x": np.ones((2, 8), np.float32)}, 2, (), "x")
