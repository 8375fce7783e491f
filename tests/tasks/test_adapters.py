"""Adapters beside the weights: mixed in one step, the same bits as alone, and what a fused model says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.tiny_adapter import write_tiny_adapter
from support.tiny_folder import write_tiny_folder
from support.tiny_folders import WRITERS

import weft
from weft.errors import ConfigError, ModelFileError, ModelNotFoundError
from weft.tasks.export import export_folder

PROMPTS = [
    "The loom",
    "A thread of many colours that is rather longer than the others are",
    "x",
    "The loom is",
]
SETTINGS = {"max_tokens": 12, "temperature": 0.9, "seed": 5, "ignore_eos": True, "logprobs": True}


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of packed weights of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("WEFT_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that speaks bytes; gate and up are interleaved in its weights."""
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three of them: all layers, some, another rank."""
    place = tmp_path_factory.mktemp("adapters")
    return [
        write_tiny_adapter(place / "all", folder, 1),
        write_tiny_adapter(place / "some", folder, 2, kinds=("v_proj", "up_proj")),
        write_tiny_adapter(place / "wide", folder, 3, rank=9),
    ]


def answers(model: weft.Model, adapter: str | None = None) -> list[tuple]:
    """Tokens and the bits of their log-probabilities."""
    return [(a.token_ids, a.logprobs) for a in model.generate(PROMPTS, adapter=adapter, **SETTINGS)]


@pytest.fixture(scope="module")
def alone(folder: Path, adapters: list[Path]) -> dict[str | None, list[tuple]]:
    """Answers with each adapter as the model's only one, and without; one thread."""
    found: dict[str | None, list[tuple]] = {}
    for path in (None, *adapters):
        with weft.load(folder, adapter=path, threads=1) as model:
            found[path and path.name] = answers(model)
    distinct = {str(value) for value in found.values()}
    assert len(distinct) == 4, "each adapter says something else"
    return found


@pytest.mark.parametrize(("threads", "teams"), [(1, 1), (2, 1), (3, 1), (2, 2)])
def test_mixed_in_one_batch_each_answers_as_alone(
    folder: Path, adapters: list[Path], alone: dict[str | None, list[tuple]], threads: int, teams: int
) -> None:
    with weft.load(folder, threads=threads, teams=teams) as model:
        assert [model.load_adapter(path) for path in adapters] == ["all", "some", "wide"]
        params = model.generator.sampling(SETTINGS)
        names = list(itertools.islice(itertools.cycle([None, "all", "some", "wide", "all"]), 20))
        prompts = [PROMPTS[(place // 5) % 4] for place in range(20)]
        sequences = [
            model.generator.request(prompt, params, adapter=model.adapters.number(name))
            for prompt, name in zip(prompts, names, strict=True)
        ]
        steps = model.engine.statistics.num_steps
        model.engine.submit(sequences)
        model.engine.wait(sequences)
        assert model.engine.statistics.num_steps - steps < 3 * 12, "they ran together"
        for sequence, prompt, name in zip(sequences, prompts, names, strict=True):
            got = tuple(sequence.output), tuple(sequence.logprobs)
            assert got == alone[name][PROMPTS.index(prompt)], name


def test_each_prompt_by_an_adapter_of_its_own(
    folder: Path, adapters: list[Path], alone: dict[str | None, list[tuple]]
) -> None:
    with weft.load(folder, adapters={path.name: path for path in adapters}, threads=2) as model:
        names = [None, "all", "some", "wide"]
        got = model.generate(PROMPTS, adapter=names, **SETTINGS)
        assert [(a.token_ids, a.logprobs) for a in got] == [alone[name][n] for n, name in enumerate(names)]
        with pytest.raises(ConfigError, match="each of 4 prompts, got 2"):
            model.generate(PROMPTS, adapter=["all", None], **SETTINGS)


def test_prefixes_are_shared_within_an_adapter_alone(
    folder: Path, adapters: list[Path], alone: dict[str | None, list[tuple]]
) -> None:
    text = "The weaver's song has as many verses as the cloth has threads, and each is sung twice. " * 2
    with weft.load(folder, threads=2) as model:
        for path in adapters:
            model.load_adapter(path)
        first = {
            name: model.generate(text, adapter=name, **SETTINGS)[0] for name in (None, *model.adapters.names)
        }
        reused = model.engine.scheduler.num_reused_tokens
        assert reused == 0, "another adapter's keys and values are others"
        for name, expected in first.items():
            assert model.generate(text, adapter=name, **SETTINGS)[0].token_ids == expected.token_ids
        assert model.engine.scheduler.num_reused_tokens >= 4 * 128
    assert len({answer.token_ids for answer in first.values()}) == 4


def test_an_adapter_comes_while_others_answer(
    folder: Path, adapters: list[Path], alone: dict[str | None, list[tuple]]
) -> None:
    with weft.load(folder, adapter=adapters[0], threads=2) as model:
        stream = model.stream(PROMPTS[0], **SETTINGS)
        tokens = list(next(stream).token_ids)
        model.load_adapter(adapters[1], "second")
        assert answers(model, "second") == alone["some"]
        tokens += [token for piece in stream for token in piece.token_ids]
        assert tuple(tokens) == alone["all"][0][0]
        assert answers(model) == alone["all"], "the default one"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("quant", ["f32", "q8", "int8"])
def test_it_says_what_the_fused_model_says(tmp_path: Path, name: str, quant: str) -> None:
    base = WRITERS[name](tmp_path / "base")
    adapter = write_tiny_adapter(tmp_path / "adapter", base, 1, strength=0.5)
    export_folder(str(base), tmp_path / "fused", "float32", str(adapter))
    texts = [[5, 80, 3, 77, 17, 17, 9, 60, 1, 2, 3], [7, 7, 7]]
    with weft.load(base, adapter=adapter, quant=quant, threads=2) as model:
        adapted, plain = model.score(texts), None
        model.adapters.default = None
        plain = model.score(texts)
    with weft.load(tmp_path / "fused", quant="f32", threads=2) as model:
        fused = model.score(texts)
    error = max(np.abs(a - b).max() for a, b in zip(adapted, fused, strict=True))
    effect = max(np.abs(a - b).max() for a, b in zip(plain, fused, strict=True))
    assert error < (1e-4 if quant == "f32" else 0.3 * effect), (error, effect)


def test_names_and_files_that_are_none(folder: Path, adapters: list[Path], tmp_path: Path) -> None:
    with weft.load(folder, threads=1) as model:
        model.load_adapter(adapters[0])
        with pytest.raises(ConfigError, match="one that is taken"):
            model.load_adapter(adapters[1], "all")
        with pytest.raises(ConfigError, match="an empty one"):
            model.load_adapter(adapters[1], "")
        with pytest.raises(ConfigError, match="an adapter among all, got 'other'"):
            model.generate("x", adapter="other")
        with pytest.raises(ModelNotFoundError, match="expected an adapter"):
            model.load_adapter(tmp_path)
        broken = write_tiny_adapter(tmp_path / "broken", folder, 1)
        content = (broken / "adapter_model.safetensors").read_bytes()
        (broken / "adapter_model.safetensors").write_bytes(content[:-4] + b"\0\0\xc0\x7f")  # not a number
        with pytest.raises(ModelFileError, match="finite"):
            model.load_adapter(broken)
        assert model.adapters.names == ("all",)
