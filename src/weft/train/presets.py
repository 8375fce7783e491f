"""Models to train from scratch: sizes by name, or in a YAML or JSON file in config.json's terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weft.errors import ConfigError
from weft.io.model_config import normalized_config
from weft.models.config import Settings
from weft.models.registry import read_config
from weft.train.yaml_text import parse_yaml

_GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_positions": 1024,
    "tie_word_embeddings": True,
}
_LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    "gpt2-tiny": {**_GPT2, "n_layer": 6, "n_embd": 384, "n_head": 6},
    "gpt2-small": {**_GPT2, "n_layer": 12, "n_embd": 768, "n_head": 12},
    "llama-tiny": {
        **_LLAMA,
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    # The sizes of the recurrent model that benchmarks are run with.
    "lstm": {
        "model_type": "lstm",
        "architectures": ["LstmForCausalLM"],
        "embedding_size": 768,
        "hidden_size": 1024,
        "num_hidden_layers": 1,
    },
    "lstm-tiny": {
        "model_type": "lstm",
        "architectures": ["LstmForCausalLM"],
        "embedding_size": 128,
        "hidden_size": 256,
        "num_hidden_layers": 1,
    },
    "perceptron": {
        "model_type": "perceptron",
        "architectures": ["PerceptronForCausalLM"],
        "embedding_size": 64,
        "hidden_size": 256,
        "window": 4,
    },
}
_SUFFIXES = (".yaml", ".yml", ".json")


def scratch_settings(model: str) -> dict[str, Any] | None:
    """The settings of a model to be trained from scratch; None where `model` names one that exists.

    Raises ConfigError for a file that is not a model's configuration.
    """
    if model in PRESETS and not Path(model).exists():
        return dict(PRESETS[model])
    path = Path(model)
    if path.suffix not in _SUFFIXES or not path.is_file():
        return None
    import yaml

    try:
        settings = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a model's configuration, got: {error}; correct it.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected a model's configuration, got no settings; see config.json.")
    if "preset" not in settings:
        return settings
    preset = settings.pop("preset")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"{path}: expected a preset among {', '.join(PRESETS)}, got {preset!r}; take one.")
    joined = {**PRESETS[preset], **settings}
    _refuse_unknown(path, settings, PRESETS[preset], joined)
    return joined


def _refuse_unknown(path: Path, own: Settings, preset: Settings, joined: Settings) -> None:
    """Raises ConfigError for an own setting that the preset's architecture does not read."""
    noted = _Noted(normalized_config({"vocab_size": 1, **joined}, str(path)))
    read_config(noted)
    known = noted.read | preset.keys()
    if unknown := sorted(map(str, own.keys() - known)):
        raise ConfigError(
            f"{path}: expected settings among {', '.join(sorted(known))}, got {', '.join(unknown)}; "
            "correct the names."
        )


class _Noted(dict[str, Any]):
    """Settings that note which of them are asked for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)
