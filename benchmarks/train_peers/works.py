"""What torch trains: each work is a module that maps a batch to its loss, and the batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import data
import torch
from data import SEED, SHAPES, VOCABULARY
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel


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
    """Embedding, LSTM, linear over the vocabulary, cross-entropy at every position.

    The second of torch's two biases, which only add up, stays zero; the last layer has none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 768)
        self.lstm = nn.LSTM(768, 1024, batch_first=True)
        self.linear = nn.Linear(1024, VOCABULARY, bias=False)
        nn.init.zeros_(self.lstm.bias_hh_l0).requires_grad_(False)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of targets [B, T] after tokens [B, T]."""
        hidden, _ = self.lstm(self.embedding(tokens))
        return functional.cross_entropy(self.linear(hidden).flatten(0, 1).float(), targets.flatten())


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


def batches(work: str, tokens: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a work: tokens and targets, or inputs and targets."""
    if work == "perceptron":
        for inputs, targets in data.vector_batches(*SHAPES[work]):
            yield torch.from_numpy(inputs), torch.from_numpy(targets)
    else:
        for inputs, targets in data.token_batches(tokens, *SHAPES[work]):
            yield torch.from_numpy(inputs).long(), torch.from_numpy(targets).long()


@dataclass(frozen=True)
class Work:
    """A model; `adam` says whether AdamW updates it, or plain gradient descent."""

    make: Callable[[Sources], nn.Module]
    adam: bool = True


def make_module(work: str, sources: Sources) -> nn.Module:
    """Return the module of a work, with the same weights each time."""
    torch.manual_seed(SEED)
    return WORKS[work].make(sources)


WORKS = {
    "full": Work(pretrained),
    "lora": Work(pretrained_with_lora),
    "gpt2": Work(gpt2),
    "lstm": Work(lambda sources: RecurrentLoss()),
    "perceptron": Work(lambda sources: PerceptronLoss(), adam=False),
}
