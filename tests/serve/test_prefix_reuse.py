"""Texts that begin as others did: computed once, and answered as if they were alone."""

from __future__ import annotations

from tests.serve.test_engine import FakeRunner, check_answer, check_empty, make_engine, request, scoring

BEGIN = [3, 1, 4, 1, 5, 9, 2, 6] * 10  # two full blocks and a half


def rows_of(engine: object) -> int:
    runner = engine._runner  # type: ignore[attr-defined]
    assert isinstance(runner, FakeRunner)
    return sum(rows for rows, _ in runner.steps)


def test_a_text_seen_before_is_not_computed_again() -> None:
    engine = make_engine()
    first, second = request(BEGIN, 1), request([*BEGIN, 7, 8], 1, seed=9)
    for sequence in (first, second):
        engine.submit([sequence])
        engine.wait([sequence])
        check_answer(sequence)
    assert (first.num_reused, second.num_reused) == (0, len(BEGIN)), "two blocks, and a part of the third"
    assert rows_of(engine) == len(BEGIN) + 2
    check_empty(engine)


def test_the_last_token_is_computed_always() -> None:
    engine = make_engine()
    for length, reused in ((64, 0), (64, 63), (65, 64), (70, 65), (69, 68), (33, 32), (31, 0)):
        sequence = request(BEGIN[:length], 1)
        engine.submit([sequence])
        engine.wait([sequence])
        check_answer(sequence)
        assert sequence.num_reused == reused
    check_empty(engine)


def test_the_next_turn_reuses_the_answer() -> None:
    engine = make_engine()
    turn = request(BEGIN[:20], 60, ends=False)
    engine.submit([turn])
    engine.wait([turn])
    following = request([*BEGIN[:20], *turn.output, 5], 10)
    engine.submit([following])
    engine.wait([following])
    check_answer(following)
    assert following.num_reused == 79, "all but the last token of the answer, which was not computed"


def test_parts_of_blocks_are_copied_from_who_has_most() -> None:
    engine = make_engine()
    texts = [[*BEGIN[:64], *range(10, 10 + n), *range(100, 120)] for n in (5, 12, 9, 0)]
    for text, reused in zip(texts, (0, 69, 73, 64), strict=True):
        sequence = request(text, 4)
        engine.submit([sequence])
        engine.wait([sequence])
        check_answer(sequence)
        assert sequence.num_reused == reused
    check_empty(engine)


def test_a_part_is_copied_from_a_request_that_runs() -> None:
    engine = make_engine()
    running = request(BEGIN[:50], 90, ends=False)
    engine.submit([running])
    engine.wait_for_output(running, 2)
    second = request([*BEGIN[:48], 7, 7], 40, seed=3, ends=False)
    engine.submit([second])
    engine.wait([running, second])
    check_answer(running)
    check_answer(second)
    assert second.num_reused == 48
    check_empty(engine)


def test_choices_share_one_prompt() -> None:
    engine = make_engine(max_rows=100)
    choices = [request(BEGIN, 6, seed=seed) for seed in range(5)]
    engine.submit(choices)
    engine.wait(choices)
    for choice in choices:
        check_answer(choice)
    assert [choice.num_reused for choice in choices] == [0, 79, 79, 79, 79]
    check_empty(engine)


def test_who_waits_for_a_prompt_that_is_cancelled_computes_it() -> None:
    engine = make_engine(max_rows=8)
    first, second = request(BEGIN, 4), request(BEGIN, 4, seed=1)
    engine.submit([first, second])
    for _ in range(5):
        engine._step()
    assert second.status.value == "waiting"
    engine.cancel([first])
    engine.wait([second])
    check_answer(second)
    assert second.num_reused == 40, "what the first had done by then"
    check_empty(engine)


def test_scores_compute_all_rows_and_serve_others() -> None:
    engine = make_engine()
    scored = scoring(BEGIN)
    engine.submit([scored])
    engine.wait([scored])
    again = scoring(BEGIN)
    answer = request(BEGIN, 5)
    engine.submit([again, answer])
    engine.wait([again, answer])
    check_answer(answer)
    assert answer.num_reused == 79
    assert sum(map(len, again.scores)) == len(BEGIN) - 1


def test_memory_goes_to_new_texts_and_oldest_are_forgotten() -> None:
    engine = make_engine(num_blocks=6, max_running=1)
    texts = [[n] * 70 for n in range(1, 5)]
    for text in [*texts, texts[3], texts[0]]:
        sequence = request(text, 5)
        engine.submit([sequence])
        engine.wait([sequence])
        check_answer(sequence)
        check_empty(engine)
    assert sequence.num_reused == 0, "the oldest text was forgotten"
    assert engine.scheduler.num_reused_tokens == 69, "the newest was not"


def test_a_failed_step_leaves_nothing_to_reuse() -> None:
    engine = make_engine()
    failing = request(BEGIN, 4)
    runner = engine._runner
    assert isinstance(runner, FakeRunner)
    runner.fail_next = ValueError("broken")
    engine.submit([failing])
    engine.run_until(lambda: failing.finished)
    again = request(BEGIN, 4)
    engine.submit([again])
    engine.wait([again])
    check_answer(again)
    assert again.num_reused == 0
