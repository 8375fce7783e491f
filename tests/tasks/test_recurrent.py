"""Models without attention answer and score as any other does: as torch would, and with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import answers as bits
from support.tiny_folders import UNCACHED, VOCABULARY

import weft
from weft.errors import PromptError
from weft.tasks.export import export_state

REQUESTS = bits.random_requests(40, VOCABULARY, longest=150, max_tokens=8)
TEXTS = [request.prompt for request in REQUESTS if len(request.prompt) > 1]

Load = Callable[..., weft.Model]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEFT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module", params=[(name, quant) for name in UNCACHED for quant in ("bf16", "q4")])
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Load:
    name, quant = request.param
    folder = UNCACHED[name](tmp_path_factory.mktemp("models") / name)
    return lambda **settings: weft.load(folder, **({"quant": quant, "threads": 1} | settings))


@pytest.fixture(scope="module")
def alone(load: Load) -> tuple[list[bits.Answer], list[tuple[int, ...]]]:
    with load() as model:
        return bits.answers(model, REQUESTS, batch=1), [bits.scores(model, [text])[0] for text in TEXTS]


@pytest.mark.parametrize(
    "settings",
    [{"threads": 2}, {"threads": 3, "teams": 2}, {"max_rows": 7, "max_running": 3}, {"max_rows": 1}],
    ids=str,
)
def test_the_same_bits_beside_others(load: Load, alone, settings) -> None:
    with load(**settings) as model:
        assert bits.answers(model, REQUESTS) == alone[0]
        assert bits.scores(model, TEXTS) == alone[1]
        assert model.engine.scheduler.num_reused_tokens == 0
        assert model.engine.scheduler.num_preemptions == 0
        assert model.engine.scheduler.blocks.num_used == 0
    assert len({answer[1] for answer in alone[0]}) > 30, "distinct answers"


def test_a_cancelled_text_leaves_nothing_to_the_next(load: Load, alone) -> None:
    with load(threads=2, max_running=2) as model:
        for request in REQUESTS[:6]:
            stream = model.stream(request.prompt, max_tokens=1000, ignore_eos=True)
            next(stream)
            stream.close()
        assert bits.answers(model, REQUESTS[:8]) == alone[0][:8]


def test_max_context(load: Load) -> None:
    with load(max_context=20) as model:
        assert model.max_context == 20
        (answer,) = model.generate([[5] * 15], max_tokens=99, ignore_eos=True)
        assert (len(answer.token_ids), answer.finish_reason) == (5, "length")
        with pytest.raises(PromptError, match="leaves room in the context of 20 tokens"):
            model.generate([[5] * 20])


def torch_logits(name: str, state: dict, tokens: list[int]):
    """Logits of every place of a text by torch's own modules, loaded from a state dictionary."""
    torch = pytest.importorskip("torch")
    embedding = torch.nn.Embedding.from_pretrained(state["embedding.weight"])
    head = state["linear.weight"]
    with torch.no_grad():
        x = embedding(torch.tensor(tokens))
        if name == "lstm":
            wide, hidden = x.shape[1], head.shape[1]
            lstm = torch.nn.LSTM(wide, hidden, num_layers=2, batch_first=True)
            prefix = "lstm."
            lstm.load_state_dict(
                {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            )
            h = lstm(x[None])[0][0]
        else:
            window = state["hidden.weight"].shape[1] // x.shape[1]
            padded = torch.cat([embedding(torch.zeros(window - 1, dtype=torch.long)), x])
            rows = torch.stack([padded[at : at + window].reshape(-1) for at in range(len(tokens))])
            h = torch.tanh(rows @ state["hidden.weight"].T + state["hidden.bias"])
        return (h @ head.T).double().log_softmax(-1).numpy()


@pytest.mark.parametrize("name", UNCACHED)
def test_against_torch(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    folder = UNCACHED[name](tmp_path / name)
    export_state(str(folder), tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    prompts = [request.prompt for request in REQUESTS[:12]]
    with weft.load(folder, threads=2, quant="f32") as model:
        answers = model.generate(prompts, temperature=0, max_tokens=10, ignore_eos=True, logprobs=0)
        scored = model.score([text for text in TEXTS[:12]])
    for prompt, answer in zip(prompts, answers, strict=True):
        text = prompt + list(answer.token_ids)
        expected = torch_logits(name, state, text[:-1])[len(prompt) - 1 :]
        assert list(answer.token_ids) == expected.argmax(axis=1).tolist()
        np.testing.assert_allclose(answer.logprobs, expected.max(axis=1), atol=1e-4)
    for text, got in zip(TEXTS, scored, strict=False):
        expected = torch_logits(name, state, text[:-1])[np.arange(len(text) - 1), text[1:]]
        np.testing.assert_allclose(got, expected, atol=1e-4)
