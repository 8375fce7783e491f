"""weft itself, behind the same interface as its peers: `--model` is anything that `open_model` takes."""

import os
from collections.abc import Sequence

from open_model import open_model
from protocol import Settings, Tokens, serve

import weft


class WeftPeer:
    """One loaded model for each number of threads that is asked for, the latest one kept open."""

    name = "weft"
    packages = ("weft",)

    def __init__(self, model: str) -> None:
        self.path = model
        self.threads = 0
        self.model: weft.Model | None = None

    def candidates(self, work: str, threads: int) -> list[Settings]:
        """Return no settings: the defaults are what users get."""
        return [{}]

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, threads: int, settings: Settings
    ) -> Tokens:
        """Generate greedily with the public call, end-of-text ignored."""
        if threads != self.threads:
            # By default without guessing ahead: how fast a token is, not how well this text can be foreseen.
            draft_max = int(os.environ.get("WEFT_PEER_DRAFT_MAX", "0"))
            self.model = open_model(self.path, threads=threads, draft_max=draft_max)
            self.threads = threads
        assert self.model is not None
        self.model.engine.forget_prefixes()  # a prompt is computed whole each time, as the peers do
        completions = self.model.generate(
            [list(prompt) for prompt in prompts], max_tokens=max_tokens, temperature=0.0, ignore_eos=True
        )
        return [list(completion.token_ids) for completion in completions]


if __name__ == "__main__":
    serve(WeftPeer)
