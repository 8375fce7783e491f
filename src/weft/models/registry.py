"""Architectures by the names that model files give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import ModelFileError, UnsupportedError
from weft.io.tensor_source import TensorSource
from weft.models import gpt2, llama, lstm, perceptron
from weft.models.config import Settings, TokenModelConfig
from weft.models.weight_spec import WeightSpec
from weft.ops import Matrix
from weft.plan import Recorder


@dataclass(frozen=True)
class Architecture:
    """How a family of models reads its configuration, names its weights, and is recorded."""

    read_config: Callable[[str, Settings], TokenModelConfig]
    weight_specs: Callable[[Any, Mapping[str, TensorSource]], Iterator[WeightSpec]]
    record_features: Callable[[Recorder, Any, Any, int], Matrix]


_FAMILIES: dict[tuple[str, ...], Architecture] = {
    llama.ARCHITECTURES: Architecture(llama.read_config, llama.weight_specs, llama.record_features),
    gpt2.ARCHITECTURES: Architecture(gpt2.read_config, gpt2.weight_specs, gpt2.record_features),
    lstm.ARCHITECTURES: Architecture(lstm.read_config, lstm.weight_specs, lstm.record_features),
    perceptron.ARCHITECTURES: Architecture(
        perceptron.read_config, perceptron.weight_specs, perceptron.record_features
    ),
}
ARCHITECTURES: dict[str, Architecture] = {
    name: family for names, family in _FAMILIES.items() for name in names
}
# For configurations that name the kind of model but not its class.
_BY_MODEL_TYPE = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "lstm": "LstmForCausalLM",
    "perceptron": "PerceptronForCausalLM",
}


def architecture(name: str) -> Architecture:
    """The architecture called `name`. Raises UnsupportedError naming what is supported."""
    if name not in ARCHITECTURES:
        raise UnsupportedError(
            f"Expected an architecture among {', '.join(ARCHITECTURES)}, got {name[:60]!r}; choose "
            "another model."
        )
    return ARCHITECTURES[name]


def read_config(settings: Settings) -> TokenModelConfig:
    """The configuration in `settings`, a Hugging Face config.json; a `ModelConfig` of a model with attention.

    Raises UnsupportedError for an unknown architecture, ModelFileError for missing or wrong settings.
    """
    name = _architecture_name(settings)
    return architecture(name).read_config(name, settings)


def _architecture_name(settings: Settings) -> str:
    names = settings.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return (
            names[0]
            if names[0] in ARCHITECTURES
            else _BY_MODEL_TYPE.get(_base_type(settings, names[0]), names[0])
        )
    kind = settings.get("model_type")
    if not isinstance(kind, str):
        raise ModelFileError(
            "Expected architectures or model_type in the configuration, got neither; add one."
        )
    return _BY_MODEL_TYPE.get(kind, kind)


def _base_type(settings: Settings, class_name: str) -> str:
    """The kind of model of a base class such as GPT2Model; of no other, as its head would be ignored."""
    kind = settings.get("model_type")
    return kind if isinstance(kind, str) and class_name.endswith("Model") else ""
