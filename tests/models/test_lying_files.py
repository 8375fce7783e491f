"""Files that are well-formed but lie about the model: refused by name and number before memory is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_folders import WRITERS, write_gpt2, write_llama
from weft.errors import ConfigError, ModelFileError, OutOfMemoryError, WeftError
from weft.io.open_checkpoint import open_checkpoint
from weft.models.loader import check_fits, load_model, pack_weights
from weft.models.part_shapes import part_shape
from weft.models.registry import read_config

pytest.importorskip("weft._native", reason="the native core is not built")

from weft.runtime import Pool, WeightPart

GIB = 1 << 30


@pytest.fixture(scope="module")
def pool() -> Any:
    with Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("family", WRITERS)
def test_every_tensor_of_another_shape_is_refused(family: str, tmp_path: Path, pool: Pool) -> None:
    checkpoint = open_checkpoint(WRITERS[family](tmp_path))
    config = read_config(checkpoint.config)
    honest = dict(checkpoint.tensors)
    for name, tensor in honest.items():
        assert tensor.shape == part_shape(config, name)
        checkpoint.tensors = honest | {name: replace(tensor, shape=(tensor.shape[0] + 1, *tensor.shape[1:]))}
        with pytest.raises(ModelFileError, match=f"expected '{name}' of shape .* got .*belong together"):
            pack_weights(checkpoint, config, pool)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rope_scaling": [1]}, "rope_scaling in the configuration to be dict"),
        ({"rope_parameters": "linear"}, "rope_parameters in the configuration to be dict"),
        ({"sliding_window": -5}, "sliding_window from 0 to"),
        ({"sliding_window": 10**30}, "sliding_window from 0 to"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be a whole number from 1 to 4096"),
        ({"vocab_size": 10**9}, "vocab_size must be a whole number"),
        ({"num_hidden_layers": 3}, "model.layers.2"),
    ],
)
def test_configurations_that_lie_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_CACHE", "0")
    names = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    folder = write_llama(tmp_path)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | names | settings))
    with pytest.raises(WeftError, match=message):
        load_model(folder, pool)


def test_an_activation_of_a_wrong_type_is_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_gpt2(tmp_path))
    with pytest.raises(ModelFileError, match="activation_function"):
        read_config(checkpoint.config | {"activation_function": {"a": 1}})


def test_weights_that_cannot_fit_are_refused_with_the_numbers(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_llama(tmp_path))
    huge = replace(checkpoint.tensors["lm_head.weight"], shape=(1 << 20, 1 << 13), data=memoryview(b""))
    for quant, size in (("f32", "32.0 GiB"), ("bf16", "16.0 GiB"), ("q4", "4.0 GiB")):
        with pytest.raises(OutOfMemoryError, match=f"in the 2.0 GiB .* got {size}"):
            check_fits(checkpoint, [[huge]], quant, available_bytes=2 * GIB)
        check_fits(checkpoint, [[huge]], quant, available_bytes=64 * GIB)


def test_sizes_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="sizes of 64 bits"):
        WeightPart("F32", 1 << 63, 1, b"")
