"""How likely texts are to a model."""

from __future__ import annotations

from collections.abc import Sequence as List

import numpy as np

from weft.tasks.generate import Generator, Prompt, prompt_list
from weft.types import Array


def score(generator: Generator, texts: Prompt | List[Prompt], adapter: int = 0) -> list[Array]:
    """For each text float32 [n − 1]: the natural-log probability of each of its n tokens after the first.

    Raises PromptError for a text without tokens or beyond the context.
    """
    engine = generator.engine
    sequences = [generator.scoring_request(text, adapter=adapter) for text in prompt_list(texts)]
    engine.submit(sequences)
    try:
        engine.wait(sequences)
    except BaseException:
        engine.cancel(sequences)
        raise
    return [np.concatenate(sequence.scores) for sequence in sequences]
