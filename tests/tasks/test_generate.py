"""Where answers begin and end, and what is told of them, on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_folders import CONTEXT, END_ID, VOCABULARY

import weft
from weft.errors import ConfigError, PromptError

PROMPT = "the loom and the "
GREEDY = {"temperature": 0.0, "ignore_eos": True}


@pytest.fixture(scope="module")
def ascii_bias(tiny: weft.Model) -> dict[int, float]:
    """Leaves readable letters alone, so that texts are what their tokens say."""
    letters = [tiny.tokenizer.encode(letter)[0] for letter in "abcdefghij "]
    return dict.fromkeys(letters, 60.0)


def test_the_text_is_that_of_the_tokens(tiny: weft.Model) -> None:
    for seed in range(8):
        out = tiny.generate(PROMPT, max_tokens=40, temperature=1.5, seed=seed, ignore_eos=True)[0]
        assert out.text == tiny.tokenizer.decode(out.token_ids, continued=True)
        assert (out.finish_reason, out.stop_reason, out.seed) == ("length", None, seed)
        assert out.prompt_tokens == len(tiny.tokenizer.encode(PROMPT))
        assert len(out.token_ids) == 40 and out.logprobs is None and out.top_logprobs is None


def test_prompts_of_every_form(tiny: weft.Model) -> None:
    ids = tiny.tokenizer.encode(PROMPT)
    forms = [PROMPT, [PROMPT], ids, [ids], np.array(ids), [np.array(ids, np.int64)]]
    answers = {tiny.generate(form, max_tokens=5, **GREEDY)[0].token_ids for form in forms}
    assert len(answers) == 1
    assert len(tiny.generate([PROMPT, ids, "a"], max_tokens=2, **GREEDY)) == 3
    assert tiny.generate([], max_tokens=2) == []


def test_a_stop_string_within_and_across_tokens(tiny: weft.Model, ascii_bias: dict[int, float]) -> None:
    settings = {"temperature": 1.0, "seed": 4, "logit_bias": ascii_bias, "max_tokens": 40, "ignore_eos": True}
    free = tiny.generate(PROMPT, **settings)[0].text
    assert len(free) == 40 and free.isascii()
    for begin, length in ((0, 1), (3, 2), (5, 4), (11, 7), (30, 10), (39, 1)):
        stop = free[begin : begin + length]
        cut = free.index(stop)
        out = tiny.generate(PROMPT, stop=["never comes", stop], **settings)[0]
        assert (out.text, out.finish_reason, out.stop_reason) == (free[:cut], "stop", stop)
        stream = tiny.stream(PROMPT, stop=stop, **settings)
        shown = ""
        for piece in stream:
            shown += piece.text
            assert free[:cut].startswith(shown), "nothing of the stop string is ever shown"
        assert shown == stream.completion.text == free[:cut]


def test_a_stop_string_that_does_not_come_is_given_back(
    tiny: weft.Model, ascii_bias: dict[int, float]
) -> None:
    settings = {"temperature": 1.0, "seed": 4, "logit_bias": ascii_bias, "max_tokens": 9, "ignore_eos": True}
    free = tiny.generate(PROMPT, **settings)[0].text
    out = tiny.generate(PROMPT, stop=free[-3:] + "!", **settings)[0]
    assert (out.text, out.finish_reason) == (free, "length"), "what was held back comes at the end"


def test_the_first_stop_string_in_the_text_wins(tiny: weft.Model, ascii_bias: dict[int, float]) -> None:
    settings = {"temperature": 1.0, "seed": 4, "logit_bias": ascii_bias, "max_tokens": 40, "ignore_eos": True}
    free = tiny.generate(PROMPT, **settings)[0].text
    stops = [free[6:9], free[2:4]]
    assert tiny.generate(PROMPT, stop=stops, **settings)[0].text == free[: min(map(free.index, stops))]


def test_stop_tokens_and_the_end_of_the_text(tiny: weft.Model) -> None:
    free = tiny.generate(PROMPT, max_tokens=12, **GREEDY)[0]
    stop = free.token_ids[7]
    out = tiny.generate(PROMPT, max_tokens=12, stop_token_ids=[stop, 3], **GREEDY)[0]
    assert out.token_ids == free.token_ids[: free.token_ids.index(stop)]
    assert (out.finish_reason, out.stop_reason) == ("stop", stop)
    towards_end = {"logit_bias": {END_ID: 100.0}, "temperature": 0.0, "max_tokens": 5}
    ended = tiny.generate(PROMPT, **towards_end)[0]
    assert (ended.token_ids, ended.text) == ((), "")
    assert (ended.finish_reason, ended.stop_reason) == ("stop", END_ID)
    ignoring = tiny.generate(PROMPT, ignore_eos=True, **towards_end)[0]
    assert ignoring.token_ids == (END_ID,) * 5
    assert (ignoring.text, ignoring.finish_reason) == ("", "length"), "marks are no text"


def test_up_to_the_end_of_the_context(tiny: weft.Model) -> None:
    assert tiny.max_context == CONTEXT
    for length in (1, 200, CONTEXT - 1):
        for max_tokens in (None, 10_000):
            out = tiny.generate([[5] * length], max_tokens=max_tokens, **GREEDY)[0]
            assert (len(out.token_ids), out.finish_reason) == (CONTEXT - length, "length")
    for length in (CONTEXT, CONTEXT + 1, 5000):
        with pytest.raises(PromptError, match=f"context of {CONTEXT} tokens, got one of {length}"):
            tiny.generate([[5] * length], max_tokens=1)
    assert len(tiny.score([[5] * CONTEXT])[0]) == CONTEXT - 1
    with pytest.raises(PromptError, match="context"):
        tiny.score([[5] * (CONTEXT + 1)])


@pytest.mark.parametrize("prompt", ["", [[]], [""], np.zeros(0, np.int32)])
def test_an_empty_prompt_is_refused(tiny: weft.Model, prompt: object) -> None:
    for call in (tiny.generate, tiny.score):
        with pytest.raises(PromptError, match="at least one token, got none"):
            call(prompt)  # type: ignore[operator]


@pytest.mark.parametrize(
    "prompt",
    [[[VOCABULARY]], [[-1]], [[0.5]], [[[1, 2]]], [["a", "b"]], [None], [1.5], None, 5, b"abc", {"a": 1}],
)
def test_what_is_no_prompt_is_refused(tiny: weft.Model, prompt: object) -> None:
    with pytest.raises(PromptError, match=r"Expected .* got"):
        tiny.generate(prompt)  # type: ignore[arg-type]


def test_one_bad_prompt_starts_none(tiny: weft.Model) -> None:
    before = tiny.engine.statistics.num_steps
    with pytest.raises(PromptError):
        tiny.generate(["fine", [5] * 999])
    assert tiny.engine.statistics.num_steps == before and tiny.engine.scheduler.idle


BAD_SETTINGS: list[dict[str, object]] = [
    {"max_tokens": 0},
    {"max_tokens": -1},
    {"temperature": -1.0},
    {"temperature": float("nan")},
    {"top_p": 0.0},
    {"top_p": 1.1},
    {"top_k": -1},
    {"min_p": 2},
    {"seed": -1},
    {"seed": 1 << 64},
    {"logprobs": 21},
    {"stop": [""]},
    {"stop": 5},
    {"stop_token_ids": [VOCABULARY]},
    {"logit_bias": {VOCABULARY: 1.0}},
    {"logit_bias": {1: float("inf")}},
    {"logit_bias": {1: 1e39}},  # infinite in float32
    {"repetition_penalty": 0.0},
    {"repetition_penalty": 1e-300},  # zero in float32
    {"top_p": 1e-300},
    {"temprature": 1.0},
    {"ignore_eos": 1},
]


def test_numbers_of_numpy_are_settings(tiny: weft.Model) -> None:
    theirs = {
        "temperature": np.float32(0.5),
        "top_k": np.int32(3),
        "seed": np.uint64(7),
        "max_tokens": np.int64(4),
    }
    ours = {name: value.item() for name, value in theirs.items()}
    assert tiny.generate("ab", **theirs) == tiny.generate("ab", **ours)


@pytest.mark.parametrize("settings", BAD_SETTINGS, ids=str)
def test_bad_settings_are_refused(tiny: weft.Model, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"Expected .* got"):
        tiny.generate(PROMPT, **settings)
    assert tiny.engine.scheduler.idle


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-5, 100.0])
@pytest.mark.parametrize("penalty", [1e-6, 100.0])
@pytest.mark.parametrize("bias", [1e30, -1e30])
def test_extreme_settings_draw(tiny: weft.Model, temperature: float, penalty: float, bias: float) -> None:
    """None of them makes an infinite logit, which would end the step of all requests."""
    settings = {"top_p": 1e-6, "top_k": 0, "presence_penalty": -100.0, "frequency_penalty": -100.0}
    out = tiny.generate(
        PROMPT,
        max_tokens=8,
        ignore_eos=True,
        temperature=temperature,
        repetition_penalty=penalty,
        logit_bias=dict.fromkeys(range(VOCABULARY), bias),
        **settings,
    )[0]
    assert len(out.token_ids) == 8


def test_half_a_character_is_never_shown(tiny: weft.Model) -> None:
    """Random bytes are mostly not UTF-8; a character that is comes whole, with the last of its tokens."""
    text = "é→🧵ß字"
    bytes_of_text = tiny.tokenizer.encode(text)
    assert len(bytes_of_text) > len(text)
    for number, token in enumerate(bytes_of_text):
        # Each step's only possible token is the next byte: the bias outweighs all logits.
        prompt = tiny.tokenizer.encode(PROMPT) + bytes_of_text[:number]
        out = tiny.generate([prompt], max_tokens=1, temperature=0.0, logit_bias={token: 100.0})[0]
        assert out.token_ids == (token,)
    decoder = tiny.tokenizer.stream_decoder()
    pieces = [decoder.push(token) for token in bytes_of_text]
    assert "".join(pieces) == text and "�" not in "".join(pieces)
    for seed in range(6):
        stream = tiny.stream(PROMPT, max_tokens=60, temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
        shown = "".join(piece.text for piece in stream)
        assert shown == stream.completion.text
        raw = tiny.tokenizer.decode(stream.completion.token_ids, continued=True)
        assert shown == raw, "the pieces are the text of the bytes, characters whole"


def test_streams_give_what_generate_gives(tiny: weft.Model) -> None:
    settings = {"max_tokens": 20, "temperature": 1.0, "seed": 9, "logprobs": 3, "ignore_eos": True}
    whole = tiny.generate(PROMPT, **settings)[0]
    pieces = list(tiny.stream(PROMPT, **settings))
    assert "".join(piece.text for piece in pieces) == whole.text
    assert sum((piece.token_ids for piece in pieces), ()) == whole.token_ids
    assert sum((piece.logprobs or () for piece in pieces), ()) == whole.logprobs
    assert sum((piece.top_logprobs or () for piece in pieces), ()) == whole.top_logprobs
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]


def test_closing_a_stream_frees_what_it_held(tiny: weft.Model) -> None:
    scheduler = tiny.engine.scheduler
    stream = tiny.stream(PROMPT, max_tokens=None, ignore_eos=True)
    first = next(stream)
    assert first.token_ids and scheduler.blocks.num_used > 0
    stream.close()
    assert scheduler.blocks.num_used == 0 and scheduler.idle
    assert list(stream) == []
    assert stream.completion.finish_reason == "cancelled"
    assert stream.completion.token_ids[:1] == first.token_ids
    with tiny.stream(PROMPT, max_tokens=None, ignore_eos=True) as entered:
        next(entered)
    assert scheduler.idle
    dropped = tiny.stream(PROMPT, max_tokens=None, ignore_eos=True)
    next(dropped)
    del dropped
    tiny.generate(PROMPT, max_tokens=1)
    assert scheduler.idle and scheduler.blocks.num_used == 0


def test_seeds(tiny: weft.Model) -> None:
    settings = {"max_tokens": 12, "temperature": 1.5, "ignore_eos": True}
    drawn = tiny.generate([PROMPT] * 6, **settings)
    assert len({out.seed for out in drawn}) == 6 and len({out.token_ids for out in drawn}) == 6
    for out in drawn[:3]:
        assert tiny.generate(PROMPT, seed=out.seed, **settings)[0].token_ids == out.token_ids
    assert tiny.generate(PROMPT, seed=(1 << 64) - 1, **settings)[0].token_ids
