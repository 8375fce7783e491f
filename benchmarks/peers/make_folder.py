"""Turn a byte-level-BPE Llama GGUF into Hugging Face folders for peers that read no GGUF, and for the oracle.

Writes `OUT` in bfloat16 and `OUT-f32` in float32. The tokenizer is made from the file's own vocabulary and
merges with SmolLM2's pre-tokenizer (digits one by one), since the one that transformers guesses differs.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

CONTROL_TOKEN = 3
DROPPED_CONFIG = (
    "quantization_config",
    "_name_or_path",
    "_model_name_or_path",
    "unk_token_id",
    "architectures",
)


class Metadata:
    """The metadata of a GGUF file, by key."""

    def __init__(self, path: Path) -> None:
        self.fields = GGUFReader(path).fields

    def __getitem__(self, key: str) -> Any:
        return self.fields[key].contents()

    def token(self, role: str) -> str:
        """Return the text of a special token such as `bos`."""
        text: str = self["tokenizer.ggml.tokens"][self[f"tokenizer.ggml.{role}_token_id"]]
        return text


def make_tokenizer(metadata: Metadata) -> Tokenizer:
    """Return the byte-level BPE tokenizer that the file describes."""
    if metadata["tokenizer.ggml.pre"] != "smollm":
        raise SystemExit(f"expected the smollm pre-tokenizer, got {metadata['tokenizer.ggml.pre']}")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"]
    control = [text for text, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    return tokenizer


def tokenizer_config(metadata: Metadata) -> dict[str, Any]:
    """Return what `tokenizer_config.json` holds."""
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": metadata.token("bos"),
        "eos_token": metadata.token("eos"),
        "pad_token": metadata.token("padding"),
        "unk_token": metadata.token("unknown"),
        "model_max_length": metadata["llama.context_length"],
        "chat_template": metadata["tokenizer.chat_template"],
    }


def read_model(path: Path) -> tuple[LlamaConfig, dict[str, torch.Tensor]]:
    """Return the configuration and the dequantized float32 weights of the file."""
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    values = {k: v for k, v in model.config.to_dict().items() if k not in DROPPED_CONFIG}
    values["rms_norm_eps"] = float(f"{values['rms_norm_eps']:.6g}")
    return LlamaConfig(**values), model.state_dict()


def write_model(
    config: LlamaConfig, weights: dict[str, torch.Tensor], dtype: torch.dtype, folder: Path
) -> None:
    """Write config.json, generation_config.json and model.safetensors."""
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model = model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(folder)
    name = str(dtype).removeprefix("torch.")
    saved = json.loads((folder / "config.json").read_text())
    saved |= {"torch_dtype": name, "rope_theta": saved["rope_parameters"]["rope_theta"]}
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n")


def main() -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    metadata = Metadata(arguments.gguf)
    config, weights = read_model(arguments.gguf)
    tokenizer = make_tokenizer(metadata)
    for suffix, dtype in (("", torch.bfloat16), ("-f32", torch.float32)):
        folder = arguments.out.with_name(arguments.out.name + suffix)
        write_model(config, weights, dtype, folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        text = json.dumps(tokenizer_config(metadata), indent=2)
        (folder / "tokenizer_config.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
