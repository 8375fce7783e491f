"""Write the models that training begins from as torch makes them: initial_models.py MODELS

Each becomes a folder that weft opens: GPT-2 as transformers saves it, the recurrent model and the perceptron
as tensors named as in torch's state dictionary.
"""

import json
import sys
from pathlib import Path

from data import INITIAL
from safetensors.torch import save_file
from works import Sources, make_module

LSTM = {
    "model_type": "lstm",
    "architectures": ["LstmForCausalLM"],
    "vocab_size": 50_257,
    "embedding_size": 768,
    "hidden_size": 1024,
    "num_hidden_layers": 1,
}


def main() -> None:
    """Write the three folders."""
    models = Path(sys.argv[1])
    sources = Sources(models, models)  # models from scratch read neither
    make_module("gpt2", sources).model.save_pretrained(models / INITIAL["gpt2"])
    for work in ("lstm", "perceptron"):
        folder = models / INITIAL[work]
        folder.mkdir(exist_ok=True)
        state = {
            name: tensor.contiguous() for name, tensor in make_module(work, sources).state_dict().items()
        }
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(LSTM if work == "lstm" else {}))


if __name__ == "__main__":
    main()
