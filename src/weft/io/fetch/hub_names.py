"""How a model of a Hugging Face repository is named."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})")
_SIMPLE = re.compile(r"[\w.+-]*")


@dataclass(frozen=True)
class HubModel:
    """A repository `OWNER/NAME`, or a GGUF file of it: `OWNER/NAME:FILE`, `OWNER/NAME:Q4_0`, `@REVISION`."""

    owner: str
    name: str
    choice: str = ""
    revision: str = "main"

    @property
    def local_name(self) -> str:
        """The model's name in weft's cache."""
        suffix = f":{self.choice}" if self.choice else ""
        revision = f"@{self.revision}" if self.revision != "main" else ""
        return f"{self.owner}/{self.name}{suffix}{revision}"


def parse_hub_name(text: str) -> HubModel | None:
    """The repository that `text` names, or None when it has not that form."""
    body, _, revision = text.removeprefix("hf:").partition("@")
    repository, _, choice = body.partition(":")
    match = _REPOSITORY.fullmatch(repository)
    if not match or ".." in text or not _SIMPLE.fullmatch(choice) or not _SIMPLE.fullmatch(revision):
        return None
    return HubModel(match[1], match[2], choice, revision or "main")
