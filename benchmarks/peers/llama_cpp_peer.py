"""llama.cpp as a benchmark peer, through llama-cpp-python's low-level calls: `--model` is a GGUF file.

All prompts are one batch of as many sequences, decoded in step, so nothing waits for Python but the arg-max,
which numpy does over the logits in place.
"""

import json
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from protocol import Settings, Tokens, serve

FLASH_ATTENTION = {
    True: llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    False: llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
CONTEXT_TOKENS = 6144


class Batch:
    """A reusable `llama_batch` of (token, position, sequence) entries."""

    def __init__(self, capacity: int) -> None:
        self.native = llama_cpp.llama_batch_init(capacity, 0, 1)

    def clear(self) -> None:
        """Drop all entries."""
        self.native.n_tokens = 0

    def add(self, token: int, position: int, sequence: int, wants_logits: bool) -> None:
        """Append one token of one sequence."""
        index = self.native.n_tokens
        self.native.token[index] = token
        self.native.pos[index] = position
        self.native.n_seq_id[index] = 1
        self.native.seq_id[index][0] = sequence
        self.native.logits[index] = wants_logits
        self.native.n_tokens = index + 1


class LlamaCppPeer:
    """One model, and one context for each combination of settings that is asked for."""

    name = "llama.cpp"
    packages = ("llama-cpp-python",)

    def __init__(self, path: str) -> None:
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.contexts: dict[str, Any] = {}
        self.batch = Batch(CONTEXT_TOKENS)

    def candidates(self, work: str, threads: int) -> list[Settings]:
        """Return both attentions, and both layouts of the cache where there are several sequences."""
        sequences = 64 if work == "batch64" else 1
        flash = {"flash_attention": True, "ubatch": 512, "unified": False, "sequences": sequences}
        plain = flash | {"flash_attention": False}
        if sequences == 1:
            return [flash, plain]
        return [flash, plain, flash | {"unified": True}, flash | {"ubatch": 2048}]

    def context(self, threads: int, settings: Settings) -> Any:
        """Return an empty context for these settings, with its threads set."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.contexts:
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT_TOKENS, 2048, settings["ubatch"]
            params.n_seq_max = settings["sequences"]
            params.flash_attn_type = FLASH_ATTENTION[settings["flash_attention"]]
            params.kv_unified = settings["unified"]
            self.contexts[key] = llama_cpp.llama_init_from_model(self.model, params)
        context = self.contexts[key]
        llama_cpp.llama_set_n_threads(context, threads, threads)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        return context

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, threads: int, settings: Settings
    ) -> Tokens:
        """Generate greedily: all prompts in one decode, then one token of every sequence a decode."""
        context = self.context(threads, settings)
        self.batch.clear()
        for sequence, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                self.batch.add(token, position, sequence, wants_logits=position == len(prompt) - 1)
        steps = [self.next_tokens(context, len(prompts))]
        for step in range(1, max_tokens):
            self.batch.clear()
            for sequence, prompt in enumerate(prompts):
                self.batch.add(int(steps[-1][sequence]), len(prompt) + step - 1, sequence, wants_logits=True)
            steps.append(self.next_tokens(context, len(prompts)))
        return [[int(tokens[sequence]) for tokens in steps] for sequence in range(len(prompts))]

    def next_tokens(self, context: Any, rows: int) -> np.ndarray:
        """Decode the batch and return the most likely next token of each sequence."""
        status = llama_cpp.llama_decode(context, self.batch.native)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        logits = llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(logits, shape=(rows, self.vocabulary_size)).argmax(axis=1)


if __name__ == "__main__":
    serve(LlamaCppPeer)
