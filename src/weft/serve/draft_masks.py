"""Drafts of constrained requests: what may come of them, and a mask after each of their tokens."""

from __future__ import annotations

from collections.abc import Mapping

from weft.serve.masks import MaskTable
from weft.serve.scheduler import Step
from weft.serve.sequence import Sequence


def allowed_drafts(masks: MaskTable, drafts: Mapping[Sequence, list[int]]) -> Mapping[Sequence, list[int]]:
    """`drafts` without the tokens that their requests' constraints refuse, and those after them.

    Waits for the matchers to stand where their answers do, where a constrained request guesses at all.
    """
    if all(sequence.matcher is None for sequence in drafts):
        return drafts
    masks.settle()
    allowed = {
        sequence: draft if sequence.matcher is None else sequence.matcher.allowed(draft)
        for sequence, draft in drafts.items()
    }
    return {sequence: draft for sequence, draft in allowed.items() if draft}


def write_draft_masks(masks: MaskTable, step: Step) -> None:
    """Begins the masks of the drafts of `step`, for the outputs that come after each request's own."""
    matchers, drafts, outputs = [], [], []
    output = 0
    for sequence in step.decoding:
        draft = step.drafts.get(sequence, [])
        if draft and sequence.matcher is not None:
            matchers.append(sequence.matcher)
            drafts.append(draft)
            outputs.append(output)
        output += 1 + len(draft)
    if matchers:
        masks.write_drafts(matchers, drafts, outputs)
