"""File readers and loading under some damaged inputs each; `make soak` gives them far more."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.fuzz import fuzz_gguf, fuzz_safetensors
from tests.fuzz.mutation import fuzz
from weft.io.gguf.reader import parse_gguf

RUNS = 2000


@pytest.mark.parametrize("module", [fuzz_gguf, fuzz_safetensors], ids=["gguf", "safetensors"])
def test_readers_survive_damage(module: ModuleType) -> None:
    outcomes = fuzz(module.make, module.read, RUNS, seed=20)
    assert sum(outcomes.values()) == RUNS
    assert outcomes["read"] > 10 and outcomes["ModelFileError"] > 1000


def test_inputs_depend_on_the_seed_alone() -> None:
    for module in (fuzz_gguf, fuzz_safetensors):
        assert module.make(random.Random(5)) == module.make(random.Random(5))


@pytest.mark.parametrize(
    "fault", [lambda data: [][1], lambda data: bytes(10**12), lambda data: exec("while True: pass")]
)
def test_the_fuzzer_notices_faults(fault: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.mutation.MAX_SECONDS_AN_INPUT", 0.2)
    with pytest.raises(AssertionError, match="input 0 of seed 1"):
        fuzz(fuzz_gguf.make, fault, 1, seed=1)


def test_seeds_are_well_formed() -> None:
    for data in fuzz_gguf._SEEDS[:4]:
        parse_gguf(memoryview(data), "seed")


def test_loading_survives_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("weft._native", reason="the native core is not built")
    from tests.fuzz import fuzz_models

    monkeypatch.setenv("WEFT_CACHE", "0")

    outcomes = fuzz(fuzz_models.make, fuzz_models.read, 400, seed=20)
    assert outcomes["read"] > 50 and outcomes["ModelFileError"] > 100 and outcomes["TokenizerError"] > 10


def test_packing_survives_lies() -> None:
    pytest.importorskip("weft._native", reason="the native core is not built")
    from tests.fuzz import fuzz_weights

    outcomes = fuzz(fuzz_weights.make, fuzz_weights.read, RUNS, seed=20)
    assert outcomes["read"] > 200 and outcomes["ConfigError"] > 1000
