"""PyTorch with transformers as a benchmark peer: `--model` is a Hugging Face folder."""

from collections.abc import Sequence

import torch
from protocol import Settings, Tokens, serve
from transformers import AutoModelForCausalLM, PreTrainedModel


class TorchPeer:
    """One transformers model for each data type that is asked for."""

    name = "torch"
    packages = ("torch", "transformers")

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.models: dict[str, PreTrainedModel] = {}

    def candidates(self, work: str, threads: int) -> list[Settings]:
        """Return both data types; `compile` is tried where a step's shapes stay the same."""
        eager = {"dtype": "float32", "attention": "sdpa", "cache": None, "compile": False}
        both = [eager, eager | {"dtype": "bfloat16"}]
        if work == "prompt512":
            return both
        return [*both, eager | {"cache": "static", "compile": True}]

    def model(self, settings: Settings) -> PreTrainedModel:
        """Return the loaded model for these settings."""
        key = f"{settings['dtype']} {settings['attention']} {settings['compile']}"
        if key not in self.models:
            dtype = getattr(torch, settings["dtype"])
            model = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=dtype, attn_implementation=settings["attention"]
            )
            model.generation_config.eos_token_id = None
            if settings["compile"]:
                model.forward = torch.compile(model.forward, dynamic=None)
            self.models[key] = model.eval()
        return self.models[key]

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, threads: int, settings: Settings
    ) -> Tokens:
        """Generate greedily with one static batch."""
        torch.set_num_threads(threads)
        rows = torch.tensor([list(prompt) for prompt in prompts])
        output = self.model(settings).generate(
            rows,
            attention_mask=torch.ones_like(rows),
            do_sample=False,
            min_new_tokens=None,
            max_new_tokens=max_tokens,
            cache_implementation=settings["cache"],
        )
        return output[:, rows.shape[1] :].tolist()


if __name__ == "__main__":
    serve(TorchPeer)
