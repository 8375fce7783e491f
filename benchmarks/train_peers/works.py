"""What is trained: each work is a torch module that maps a batch to its loss, and the batches.

The token works read `tokens.npy`, which benchmarks/peers/setup.sh makes; batch number s holds the tokens from
s * rows * columns on, so every engine that is given the same file sees the same data in the same order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

VOCABULARY = 50_257
SEED = 1234


@dataclass(frozen=True)
class Sources:
    """Where the pretrained model and the tokens are."""

    model: Path
    tokens: Path


class LanguageModelLoss(nn.Module):
    """Cross-entropy of a transformers model at every position."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of targets [B, T] after tokens [B, T]."""
        logits = self.model(tokens, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class RecurrentLoss(nn.Module):
    """Embedding, LSTM, linear over the vocabulary, cross-entropy at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 768)
        self.lstm = nn.LSTM(768, 1024, batch_first=True)
        self.head = nn.Linear(1024, VOCABULARY)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of targets [B, T] after tokens [B, T]."""
        hidden, _ = self.lstm(self.embedding(tokens))
        return functional.cross_entropy(self.head(hidden).flatten(0, 1).float(), targets.flatten())


class PerceptronLoss(nn.Module):
    """Mean squared error of f(x) = W1 tanh(W2 x + b2) + b1, 64 to 256 to 16 features."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 256)
        self.output = nn.Linear(256, 16)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of targets [B, 16] for inputs [B, 64]."""
        return functional.mse_loss(self.output(torch.tanh(self.hidden(inputs))), targets)


def pretrained(sources: Sources) -> nn.Module:
    """Return the pretrained model, whole, in float32."""
    return LanguageModelLoss(AutoModelForCausalLM.from_pretrained(sources.model, dtype=torch.float32))


def pretrained_with_lora(sources: Sources) -> nn.Module:
    """Return the pretrained model with adapters of rank 16 beside every linear layer of its blocks."""
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(sources.model, dtype=torch.float32)
    adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return LanguageModelLoss(get_peft_model(model, adapters))


def gpt2(sources: Sources) -> nn.Module:
    """Return GPT-2 with 6 layers of 384 features, randomly initialised."""
    sizes = GPT2Config(vocab_size=VOCABULARY, n_positions=256, n_embd=384, n_layer=6, n_head=6)
    sizes.resid_pdrop = sizes.embd_pdrop = sizes.attn_pdrop = 0.0
    return LanguageModelLoss(GPT2LMHeadModel(sizes))


def token_batches(sources: Sources, rows: int, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield tokens and targets [rows, columns] in the file's order, from the start again at its end."""
    tokens = torch.from_numpy(np.load(sources.tokens).astype(np.int64))
    size = rows * columns
    while True:
        for start in range(0, len(tokens) - size - 1, size):
            yield (
                tokens[start : start + size].view(rows, columns),
                tokens[start + 1 : start + size + 1].view(rows, columns),
            )


def vector_batches(sources: Sources, rows: int, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs [rows, 64] and targets [rows, 16] of a fixed random network of the same shape."""
    random = np.random.default_rng(SEED)
    first = random.standard_normal((64, 256), dtype=np.float32) / 8
    second = random.standard_normal((256, 16), dtype=np.float32) / 16
    inputs = [random.standard_normal((rows, columns), dtype=np.float32) for _ in range(16)]
    pairs = [(torch.from_numpy(one), torch.from_numpy(np.tanh(one @ first) @ second)) for one in inputs]
    while True:
        yield from pairs


@dataclass(frozen=True)
class Work:
    """A model with its batches; `adam` says whether AdamW updates it, or plain gradient descent."""

    make: Callable[[Sources], nn.Module]
    batches: Callable[[Sources, int, int], Iterator[tuple[Tensor, Tensor]]]
    rows: int
    columns: int
    learning_rate: float
    adam: bool = True

    @property
    def counted_per_step(self) -> int:
        """Tokens of a step, or samples where there are no tokens."""
        return self.rows * self.columns if self.batches is token_batches else self.rows


WORKS = {
    "full": Work(pretrained, token_batches, 8, 256, 1e-5),
    "lora": Work(pretrained_with_lora, token_batches, 8, 256, 2e-4),
    "gpt2": Work(gpt2, token_batches, 8, 256, 6e-4),
    "lstm": Work(lambda sources: RecurrentLoss(), token_batches, 16, 128, 1e-3),
    "perceptron": Work(lambda sources: PerceptronLoss(), vector_batches, 4096, 64, 0.1, adam=False),
}
