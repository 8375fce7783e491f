from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from support.byte_tokenizer import CHAT_TEMPLATE, END, byte_tokenizer

from weft.errors import DataError
from weft.io.text.chat_template import ChatTemplate
from weft.train.data.batches import Batches, Prefetcher
from weft.train.data.dataset import DataSettings, load_dataset
from weft.train.data.files import find_files
from weft.train.data.slices import make_slices
from weft.train.data.split import permutation
from weft.train.data.text_parts import text_parts

TOKENIZER = byte_tokenizer()


def settings(**changes):
    return DataSettings(
        **{"max_seq_length": 8, "mask_prompt": False, "valid_share": 0.0, "seed": 1} | changes
    )


def load(data, template=None, vocabulary=258, **changes):
    return load_dataset(find_files([str(data)]), TOKENIZER, template, vocabulary, settings(**changes))


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in (("a", "abcdefghij"), ("b", "xy"), ("c", "0123456789" * 3)):
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_rows_are_full_and_every_pair_occurs_once(texts):
    rows = load(texts).train
    pairs = []
    for row in range(len(rows)):
        slice_ = make_slices(rows, [row], 1)[0]
        assert slice_.num_rows == 8 or row == len(rows) - 1
        assert np.array_equal(
            slice_.sequences[:, 0], np.cumsum(slice_.sequences[:, 1]) - slice_.sequences[:, 1]
        )
        for first, count in slice_.sequences:
            assert np.array_equal(slice_.positions[first : first + count, 0], np.arange(count))
        pairs += list(zip(slice_.tokens[:, 0].tolist(), slice_.targets[:, 0].tolist(), strict=True))
    expected = []
    for text in ("abcdefghij", "xy", "0123456789" * 3):
        ids = [*text.encode(), END]
        expected += list(itertools.pairwise(ids))
    assert pairs == expected


def test_slices_of_a_step_share_one_loss(texts):
    rows = load(texts).train
    slices = make_slices(rows, [0, 2, 1, 3], 2, first_id=100)
    assert len(slices) == 2
    assert sum(float(s.loss_weights.sum()) for s in slices) == pytest.approx(1)
    ids = np.concatenate([s.row_ids for s in slices])[:, 0]
    assert np.array_equal(ids, np.arange(100, 100 + len(ids)))
    for s in slices:
        shapes = {name: (array.dtype.str, array.shape) for name, array in s.inputs().items()}
        n = s.num_rows
        assert shapes["tokens"] == shapes["targets"] == shapes["positions"] == ("<i4", (n, 1))
        assert shapes["loss_weights"] == ("<f4", (n, 1)) and shapes["row_ids"] == ("<i8", (n, 1))
        assert shapes["sequences"][0] == "<i4" and int(s.sequences[:, 1].sum()) == n


def write_chats(path, lengths):
    lines = []
    for index, length in enumerate(lengths):
        turns = [{"role": "user", "content": "q" * index}, {"role": "assistant", "content": "a" * length}]
        lines.append(json.dumps({"messages": turns}))
    path.write_text("\n".join(lines))


def test_prompts_are_masked_and_examples_stay_whole(tmp_path):
    write_chats(tmp_path / "chats.jsonl", [3, 1, 5, 2])
    template = ChatTemplate.of(CHAT_TEMPLATE, TOKENIZER)
    rows = load(tmp_path / "chats.jsonl", template, max_seq_length=64, mask_prompt=True).train
    assert rows.num_cut == 0
    trained = []
    for row in range(len(rows)):
        slice_ = make_slices(rows, [row], 1)[0]
        for first, count in slice_.sequences:
            span = slice(first, first + count)
            assert slice_.tokens[span.start, 0] == 256
            mask = slice_.loss_weights[span, 0] > 0
            trained.append(bytes(t for t in slice_.targets[span, 0][mask] if t < 256).decode())
            assert slice_.targets[span, 0][mask][-1] == END
    assert sorted(trained) == ["a", "aa", "aaa", "aaaaa"]


def test_an_example_beyond_the_length_is_cut_and_counted(tmp_path):
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "p" * 4, "completion": "c" * 20}))
    rows = load(tmp_path / "long.jsonl").train
    assert (len(rows), rows.num_tokens, rows.num_cut) == (1, 8, 16)


def test_data_is_tokenized_once(texts, monkeypatch):
    first = load(texts)
    monkeypatch.setattr("weft.train.data.token_cache.tokenize", lambda *_: pytest.fail("tokenized again"))
    again = load(texts)
    assert again.key == first.key and np.array_equal(again.train.data.tokens, first.train.data.tokens)
    (texts / "b.txt").write_text("xz")
    monkeypatch.undo()
    monkeypatch.setenv("WEFT_HOME", str(texts / "home"))
    assert load(texts).key != first.key


def test_held_out_documents_depend_on_the_seed_alone(tmp_path):
    lines = [json.dumps({"text": f"document {i:03d} " + "x" * (i % 7)}) for i in range(100)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    one, same, other = (load(tmp_path / "many.jsonl", valid_share=0.2, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.valid.begin, same.valid.begin)
    assert not np.array_equal(one.valid.begin, other.valid.begin)
    assert one.valid.num_tokens == pytest.approx(0.2 * (one.train.num_tokens + one.valid.num_tokens), rel=0.2)

    def tokens(rows):
        return {int(b) + i for b, n in zip(rows.begin, rows.size, strict=True) for i in range(n)}

    assert not tokens(one.valid) & tokens(one.train)


def test_of_few_documents_the_end_is_held_out(texts):
    data = load(texts, valid_share=0.3)
    assert data.valid is not None and len(data.valid) >= 1
    assert data.train.begin.min() == 0


@pytest.mark.parametrize(("count", "held_out"), [(4, 0), (10, 1), (16, 2)])
def test_of_few_examples_whole_ones_are_held_out_or_none(tmp_path, count, held_out):
    """The end of an answer is what a model must learn."""
    write_chats(tmp_path / "chats.jsonl", [5] * count)
    template = ChatTemplate.of(CHAT_TEMPLATE, TOKENIZER)
    data = load(
        tmp_path / "chats.jsonl", template, max_seq_length=128, valid_share=0.06 if count > 9 else 0.1
    )
    assert (0 if data.valid is None else len(data.valid.begin)) == held_out
    ends = data.train.begin + data.train.size
    assert len(ends) == count - held_out and (data.train.data.tokens[ends] == END).all()


def test_a_long_text_in_parts_has_the_tokens_of_the_whole(tmp_path, monkeypatch):
    texts = ["one two\nthree  four\n\n\nfive\n" * 40, "word " * 100, "織" * 200, "x" * 30]
    lines = [{"text": text} for text in texts]
    lines += [{"prompt": text, "completion": text[:150]} for text in texts]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    whole = load(tmp_path / "d.jsonl", mask_prompt=True).train.data
    monkeypatch.setattr("weft.train.data.tokenize.text_parts", lambda text: text_parts(text, 20))
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    parts = load(tmp_path / "d.jsonl", mask_prompt=True).train.data
    for name in ("tokens", "trained", "starts", "keep_whole"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name


def test_parts_of_a_text_end_where_lines_or_words_do():
    text = "a line\n" * 30 + "word " * 40 + "x" * 100
    parts = text_parts(text, 20)
    assert "".join(parts) == text and all(20 <= len(part) <= 40 for part in parts[:-1])
    assert parts[0].endswith("line\n") and " word" in [part[:5] for part in parts]
    assert text_parts("") == [""] and text_parts("short") == ["short"]


def test_a_vocabulary_that_does_not_fit_is_refused(texts):
    with pytest.raises(DataError, match="vocabulary of 100"):
        load(texts, vocabulary=100)


def test_empty_files_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"got none in .*empty\.txt"):
        load(tmp_path / "empty.txt")


def test_an_epoch_takes_each_row_once_in_an_order_of_its_own(texts):
    rows = load(texts).train
    batches = Batches(rows, 2, 1, seed=3)
    count = len(rows)
    taken = [int(s.tokens[0, 0]) * 1000 + s.num_rows for step in range(count) for s in batches(step)]
    assert sorted(taken[:count]) == sorted(taken[count:]) and taken[:count] != taken[count:]
    fresh = Batches(rows, 2, 1, seed=3)
    for step in (count - 1, 0, 3):  # a batch needs no other before it
        assert all(
            np.array_equal(a.tokens, b.tokens) and np.array_equal(a.row_ids, b.row_ids)
            for a, b in zip(fresh(step), batches(step), strict=True)
        )
    assert batches.epoch(count) == 2.0


def test_permutations_never_change():
    assert permutation(8, 7, 0).tolist() == GOLDEN
    assert sorted(permutation(1000, 5, 2).tolist()) == list(range(1000))


GOLDEN = [4, 1, 6, 3, 2, 7, 5, 0]


def test_the_prefetcher_gives_steps_in_order_and_errors_in_place():
    def make(step):
        if step == 5:
            raise DataError("step five")
        return [step]

    with Prefetcher(make, 2) as ahead:
        assert [ahead.next() for _ in range(3)] == [[2], [3], [4]]
        with pytest.raises(DataError, match="step five"):
            ahead.next()
