"""The bar of `weft train` in a terminal: what it says, and that the terminal is whole afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.run_weft import Terminal, Weft
from weft.cli.train_progress import fitting_numbers
from weft.train.report import StepReport

SIZES = "preset: gpt2-tiny\nn_layer: 1\nn_embd: 32\nn_head: 2\nn_positions: 64\n"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def train(place: Path, *more: str) -> tuple[str, ...]:
    (place / "sizes.yaml").write_text(SIZES)
    (place / "text.txt").write_text("A loom weaves threads into cloth, over and under. " * 60)
    files = (
        "--model",
        str(place / "sizes.yaml"),
        "--data",
        str(place / "text.txt"),
        "--out",
        str(place / "run"),
    )
    return ("train", *files, "--batch-size", "4", "--max-seq-length", "32", "--vocab-size", "300", *more)


def test_the_bar_tells_the_course_of_a_run(weft: Weft, tmp_path: Path) -> None:
    shown = Terminal(weft, *train(tmp_path, "--steps", "40"))
    assert shown.finish() == 0, shown.shown
    for text in (
        "memory",
        "40/40",
        "loss",
        "smoothed",
        "tokens/s",
        "% of the limit",
        "0:00:00",
        "held-out loss",
    ):
        assert text in shown.shown, text
    assert shown.shown.rfind(SHOW_CURSOR) > shown.shown.rfind(HIDE_CURSOR) > 0


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (
            ("--learning-rate", "1e30", "--clip-norm", "0", "--optimizer", "sgd", "--steps", "6"),
            1,
            "finite loss",
        ),
        (("--steps", "100000", "--save-every", "100000", "--eval-every", "0"), 130, "go on with: weft train"),
    ],
    ids=["diverged", "Ctrl-C"],
)
def test_a_run_that_breaks_off_gives_the_cursor_back(
    weft: Weft, tmp_path: Path, more: tuple[str, ...], code: int, message: str
) -> None:
    shown = Terminal(weft, *train(tmp_path, *more))
    if code == 130:
        shown.press_until(b"\x03", "saved after", shown.wait_for("smoothed"))
    assert shown.finish() == code, shown.shown
    assert message in " ".join(shown.shown.split())
    assert shown.shown.count(HIDE_CURSOR) == shown.shown.count(SHOW_CURSOR) == 1


def test_a_narrow_terminal_is_told_less() -> None:
    report = StepReport(
        step=7,
        total_steps=100000,
        loss=5.71,
        smoothed_loss=5.715,
        accuracy=0.1,
        learning_rate=1e-3,
        gradient_norm=1.0,
        tokens=128,
        tokens_per_second=20764.0,
        epoch=0.1,
        limit_share=0.02,
    )
    forms = {fitting_numbers(report, room) for room in range(100)}
    assert forms == {
        "loss 5.7100 (smoothed 5.7150), 20,764 tokens/s (2% of the limit)",
        "loss 5.7100 (5.7150), 20,764 tokens/s (2%)",
        "loss 5.7100 (5.7150), 20,764/s",
        "loss 5.7100, 20,764/s",
        "loss 5.7100",
    }
    assert all(len(fitting_numbers(report, room)) <= max(room, 11) for room in range(100))
