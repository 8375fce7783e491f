"""What the KV cache holds by default, and on request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.tiny_folders import VOCABULARY, write_llama

import weft
from weft.errors import ConfigError
from weft.runtime import selected_isa
from weft.types import DType


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny Llama, and a cache of packed weights of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(tmp_path_factory.mktemp("home")))
        yield write_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.mark.parametrize(
    ("quant", "is_exact"), [("f32", True), ("bf16", False), ("q8", False), ("int8", False), ("q4", False)]
)
def test_bfloat16_by_default_where_it_is_multiplied_and_weights_are_not_float32(folder, quant, is_exact):
    with weft.load(folder, threads=1, quant=quant) as model:
        fast = selected_isa() == "avx512" and not is_exact
        assert model.cache.type.dtype == (DType.BF16 if fast else DType.F16)


def test_any_type_on_any_path(folder):
    text = list(np.random.default_rng(3).integers(1, VOCABULARY, 100))
    scores = {}
    for dtype in ("f32", "f16", "bf16"):
        with weft.load(folder, threads=2, quant="f32", kv_dtype=dtype) as model:
            assert model.cache.type.dtype == DType(dtype)
            (scores[dtype],) = model.score([text])
    far = {dtype: float(np.abs(scores[dtype] - scores["f32"]).mean()) for dtype in ("f16", "bf16")}
    assert 0 < far["f16"] < 0.01 and far["f16"] < far["bf16"] < 0.1, far


def test_another_type_is_refused(folder):
    with pytest.raises(ConfigError, match="kv_dtype"):
        weft.load(folder, kv_dtype="q8")
