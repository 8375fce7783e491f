"""CTranslate2 as a benchmark peer: `--model` is a folder that `ct2-transformers-converter` made."""

import json
from collections.abc import Sequence
from pathlib import Path

import ctranslate2
from protocol import Settings, Tokens, serve

NEVER_GENERATED = "<reponame>"


class CTranslate2Peer:
    """One `Generator` for each combination of workers and threads that is asked for."""

    name = "ctranslate2"
    packages = ("ctranslate2",)

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.vocabulary: list[str] = json.loads((Path(folder) / "vocabulary.json").read_text())
        self.generators: dict[str, ctranslate2.Generator] = {}

    def candidates(self, work: str, threads: int) -> list[Settings]:
        """Return one worker with all threads, and for batches also a worker for each thread."""
        one = {"inter_threads": 1, "intra_threads": threads, "compute_type": "default"}
        if work != "batch64" or threads == 1:
            return [one]
        split = one | {"inter_threads": threads, "intra_threads": 1}
        return [split, one, split | {"max_batch_size": 16}]

    def generator(self, settings: Settings) -> ctranslate2.Generator:
        """Return the loaded generator for these settings."""
        keys = ("inter_threads", "intra_threads", "compute_type")
        options = {key: settings[key] for key in keys}
        key = json.dumps(options, sort_keys=True)
        if key not in self.generators:
            self.generators[key] = ctranslate2.Generator(self.folder, device="cpu", **options)
        return self.generators[key]

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, threads: int, settings: Settings
    ) -> Tokens:
        """Generate greedily; the batch is split evenly among the workers."""
        workers = settings["inter_threads"]
        results = self.generator(settings).generate_batch(
            [[self.vocabulary[token] for token in prompt] for prompt in prompts],
            max_batch_size=settings.get("max_batch_size", -(-len(prompts) // workers)),
            max_length=max_tokens,
            end_token=NEVER_GENERATED,
            include_prompt_in_result=False,
        )
        return [list(result.sequences_ids[0]) for result in results]


if __name__ == "__main__":
    serve(CTranslate2Peer)
