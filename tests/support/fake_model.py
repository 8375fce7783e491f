"""A model that costs nothing and forgives nothing: its next token depends on every token of the text so far.

It has a paged cache of tokens in place of keys and values and reads it through the block tables, so that a
wrong slot, position or block shows as a wrong token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from collections.abc import Sequence as List

import numpy as np

from weft.serve.runner import Inputs, Sampled, Scored
from weft.types import BLOCK_TOKENS

VOCABULARY = 256
END = VOCABULARY - 1

NextToken = Callable[[List[int], int, int], int]
"""The token after a text, for a seed and a stream."""


def next_token(text: List[int], seed: int, stream: int) -> int:
    """The token after `text`, for a seed and a stream; END in one case of forty."""
    digest = _digest([*text, seed, stream])
    return END if digest[0] % 40 == 0 else int.from_bytes(digest[1:], "big") % END


def next_repeating_token(text: List[int], seed: int, stream: int) -> int:
    """As `next_token`, but in seven cases of eight the last token alone decides, so that texts repeat."""
    if _digest([*text, seed, stream])[3] % 8 == 0:
        return next_token(text, seed, stream)
    return _digest(text[-1:])[0] % 16


def _digest(numbers: List[int]) -> bytes:
    return hashlib.blake2b(np.array(numbers, np.int64).tobytes(), digest_size=4).digest()


def log_prob(text: List[int], target: int) -> float:
    """The log-probability of `target` after `text`."""
    return -float(int(np.dot(np.arange(1, len(text) + 1), text)) % 1009 + target) / 256


def expected_answer(
    prompt: List[int],
    seed: int,
    stream: int,
    max_tokens: int,
    ends: bool = True,
    follow: NextToken = next_token,
) -> list[int]:
    """What the engine must answer to `prompt`."""
    text = list(prompt)
    for _ in range(max_tokens):
        token = follow(text, seed, stream)
        if ends and token == END:
            break
        text.append(token)
    return text[len(prompt) :]


class FakeRunner:
    """Runs steps over a paged cache of tokens; checks what it is given."""

    def __init__(self, num_blocks: int, follow: NextToken = next_token) -> None:
        self._follow = follow
        self.cache = np.full(num_blocks * BLOCK_TOKENS, -1, np.int64)
        self.steps: list[tuple[int, int]] = []  # rows and outputs of each
        self.fail_next: Exception | None = None
        self.closed = False
        self.chains = False

    def generate_chain(self, inputs: Inputs, num_steps: int, ends: Collection[int]) -> Sampled:
        n = len(inputs["tokens"])
        stacked = (
            "positions",
            "slots",
            "sequences",
            "output_rows",
            "real_settings",
            "int_settings",
            "adapters",
            "output_adapters",
        )
        drawn: list[Sampled] = []
        for number in range(num_steps):
            rows = slice(number * n, (number + 1) * n)
            own = {name: inputs[name][rows] for name in stacked if name in inputs}
            if drawn:
                own["tokens"] = drawn[-1].tokens[:, None]
            drawn.append(self.generate({**inputs, **own}))
            if set(drawn[-1].tokens.tolist()) & set(ends):
                break
        names = ("tokens", "logprobs", "top_tokens", "top_logprobs")
        return Sampled(*(np.concatenate([getattr(step, name) for step in drawn]) for name in names))

    def generate(self, inputs: Inputs) -> Sampled:
        texts = self._texts(inputs)
        ints = inputs["int_settings"]
        tokens = []
        for text, row in zip(texts, ints.tolist(), strict=True):
            seed = row[3] % 2**32 + (row[4] % 2**32 << 32)
            assert row[6] == len(text), "position of the draw"
            tokens.append(self._follow(text, seed % 2**63, row[5]))
        n = len(tokens)
        top = np.tile(np.arange(20, dtype=np.int32), (n, 1))
        logprobs = np.array([-t / 7 for t in tokens], np.float32)
        return Sampled(np.array(tokens, np.int32), logprobs, top, -top.astype(np.float32))

    def score(self, inputs: Inputs) -> Scored:
        texts, targets = self._texts(inputs), inputs["targets"][:, 0].tolist()
        values = [log_prob(text, target) for text, target in zip(texts, targets, strict=True)]
        top = np.tile(np.arange(20, dtype=np.int32), (len(texts), 1))
        return Scored(np.array(values, np.float32), top, -top.astype(np.float32))

    def copy_block(self, source: int, target: int) -> None:
        blocks = self.cache.reshape(-1, BLOCK_TOKENS)
        blocks[target] = blocks[source]

    def close(self) -> None:
        self.closed = True

    def _texts(self, inputs: Inputs) -> list[list[int]]:
        """Writes the rows to the cache; the text up to each output row, read back through the block table."""
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        for array in inputs.values():
            assert array.flags.c_contiguous and array.ndim == 2
        slots = inputs["slots"][:, 0]
        assert len(set(slots.tolist())) == len(slots), "two rows in one slot"
        self.cache[slots] = inputs["tokens"][:, 0]
        self.steps.append((len(slots), len(inputs["output_rows"])))
        owner = np.full(len(slots), -1)
        for number, (first, count, _, _) in enumerate(inputs["sequences"].tolist()):
            assert (owner[first : first + count] == -1).all()
            owner[first : first + count] = number
        assert (owner >= 0).all(), "a row of no sequence"
        return [self._text(inputs, row, owner[row]) for row in inputs["output_rows"][:, 0].tolist()]

    def _text(self, inputs: Inputs, row: int, number: int) -> list[int]:
        first, _, first_position, first_block = inputs["sequences"][number].tolist()
        position = first_position + row - first
        assert position == inputs["positions"][row, 0]
        table = inputs["block_table"][first_block:, 0]
        slots = [table[p // BLOCK_TOKENS] * BLOCK_TOKENS + p % BLOCK_TOKENS for p in range(position + 1)]
        text = self.cache[slots]
        assert (text >= 0).all(), "a token that was never written"
        return list(text.tolist())


class CountingRunner:
    """The cheapest runner: always the same token. For measuring what the engine itself costs."""

    def __init__(self, max_outputs: int = 512) -> None:
        self._tokens = np.ones(max_outputs, np.int32)
        self._logprobs = np.zeros(max_outputs, np.float32)
        self._none = np.zeros((max_outputs, 20), np.int32)
        self.chains = False

    def generate_chain(self, inputs: Inputs, num_steps: int, ends: Collection[int]) -> Sampled:
        return self.generate(inputs)

    def generate(self, inputs: Inputs) -> Sampled:
        n = len(inputs["output_rows"])
        return Sampled(self._tokens[:n], self._logprobs[:n], self._none[:n], self._logprobs[:n, None])

    def score(self, inputs: Inputs) -> Scored:
        return Scored(self._logprobs[: len(inputs["output_rows"])])

    def copy_block(self, source: int, target: int) -> None:
        return None

    def close(self) -> None:
        return None
