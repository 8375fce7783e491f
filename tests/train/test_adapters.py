from __future__ import annotations

import json

import numpy as np
import pytest
from support import tiny_models
from support.byte_tokenizer import byte_tokenizer

from weft.errors import ConfigError, ModelFileError, ModelNotFoundError, UnsupportedError
from weft.io.hf_writer import TextFiles, write_folder
from weft.io.open_checkpoint import open_checkpoint
from weft.models.adapter import AdapterSettings
from weft.models.registry import read_config
from weft.train.adapters import (
    Adapter,
    adapter_folder,
    adapter_parts,
    fuse,
    initial_adapter,
    load_adapter,
    save_adapter,
)
from weft.train.master_weights import load_master_weights, split_parts

TOKENS = [5, 80, 3, 200, 17, 17]


@pytest.fixture(params=["llama", "gpt2"])
def base(tmp_path, request):
    model = tiny_models.make(request.param, vocab_size=258)
    model.save_pretrained(tmp_path / "base")
    byte_tokenizer().save(tmp_path / "base" / "tokenizer.json")
    checkpoint = open_checkpoint(tmp_path / "base")
    return model, checkpoint, read_config(checkpoint.config)


def random_adapter(config, kinds=()):
    weights = initial_adapter(config, kinds, 3, seed=1)
    random = np.random.default_rng(0)
    for name in weights:
        weights[name] = random.normal(size=weights[name].shape).astype(np.float32) * np.float32(0.3)
    return Adapter(AdapterSettings(3, 5.0, 0.1), weights, "base")


def test_an_adapter_survives_its_folder(tmp_path, base):
    _, _, config = base
    adapter = random_adapter(config)
    save_adapter(tmp_path / "adapter", config, adapter)
    found = load_adapter(tmp_path / "adapter", config)
    assert found.settings == adapter.settings and found.base == "base"
    assert found.weights.keys() == adapter.weights.keys()
    assert all(np.array_equal(found.weights[name], adapter.weights[name]) for name in found.weights)
    (tmp_path / "run").mkdir()
    (tmp_path / "adapter").rename(tmp_path / "run" / "final")
    assert adapter_folder(tmp_path / "run") == tmp_path / "run" / "final"


def test_peft_loads_it_and_a_fused_model_gives_the_same(tmp_path, base):
    peft = pytest.importorskip("peft")
    import torch
    import transformers

    model, checkpoint, config = base
    adapter = random_adapter(config)
    save_adapter(tmp_path / "adapter", config, adapter)
    plain = tiny_models.logits(model, TOKENS)
    adapted = tiny_models.logits(peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval(), TOKENS)
    weights = load_master_weights(checkpoint, config)
    fuse(config, weights, adapter)
    files = TextFiles(checkpoint.config, checkpoint.tokenizer())
    write_folder(tmp_path / "fused", files, split_parts(config, weights), "float32")
    fused = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "fused", dtype=torch.float32)
    got = tiny_models.logits(fused.eval(), TOKENS)
    assert np.abs(adapted - plain).max() > 0.1
    np.testing.assert_allclose(got, adapted, atol=1e-4)


def test_an_adapter_of_peft_is_loaded(tmp_path, base):
    peft = pytest.importorskip("peft")

    model, _, config = base
    kind = adapter_parts(config)[0].kind
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=4, target_modules=[kind]))
    theirs.save_pretrained(tmp_path / "theirs")
    adapter = load_adapter(tmp_path / "theirs", config)
    assert adapter.settings == AdapterSettings(2, 4.0, 0.0)
    assert len(adapter.weights) == 2 * len(adapter_parts(config, [kind]))


def test_a_new_adapter_adds_nothing(base):
    _, checkpoint, config = base
    weights = load_master_weights(checkpoint, config)
    before = {name: weight.copy() for name, weight in weights.items()}
    adapter = Adapter(AdapterSettings(4, 8.0), initial_adapter(config, (), 4, 0), None)
    fuse(config, weights, adapter)
    assert all(np.array_equal(weights[name], before[name]) for name in weights)
    assert any(weight.any() for weight in adapter.weights.values())


def test_a_rank_above_that_of_the_layers_is_refused(base):
    with pytest.raises(ConfigError, match="a rank of at most"):
        initial_adapter(base[2], (), 10**8, 0)


def test_unknown_layers_are_refused(base):
    with pytest.raises(ConfigError, match=r"Expected layers among .*, got nonsense"):
        adapter_parts(base[2], ["nonsense"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"peft_type": "IA3"}, UnsupportedError, "peft_type"),
        ({"use_dora": True}, UnsupportedError, "use_dora"),
        ({"r": 4}, ModelFileError, "lora_A of"),
        ({"r": None}, ModelFileError, "r and lora_alpha"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path, base, change, error, message):
    save_adapter(tmp_path / "adapter", base[2], random_adapter(base[2]))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message):
        load_adapter(tmp_path / "adapter", base[2])


def test_a_folder_without_one_is_said(tmp_path):
    with pytest.raises(ModelNotFoundError, match="expected an adapter"):
        adapter_folder(tmp_path)
