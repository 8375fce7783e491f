"""The perceptron on vectors: from tables of numbers to a model that torch computes the same with."""

from __future__ import annotations

import numpy as np
import pytest

import weft
from weft.errors import ConfigError, DataError, ModelFileError
from weft.tasks.export import export_state
from weft.tasks.vectors import evaluate_perceptron, predict_table
from weft.train.data.files import find_files
from weft.train.data.read_vectors import Columns, read_vectors


@pytest.fixture
def numbers():
    generator = np.random.default_rng(4)
    x = generator.normal(size=(500, 3)).astype(np.float32)
    y = np.stack([np.sin(x[:, 0]) + 0.5 * x[:, 1], x[:, 2] * x[:, 0]], axis=1).astype(np.float32)
    return x, y


@pytest.fixture
def table(numbers, tmp_path):
    x, y = numbers
    rows = [",".join(map(repr, row)) for row in np.concatenate([x, y], axis=1).tolist()]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c,sine,product", *rows]) + "\n")
    return tmp_path / "table.csv"


def settings(table, **changes):
    defaults = {"model": "perceptron", "data": str(table), "out": str(table.parent / "run")}
    defaults |= {"targets": ("sine", "product"), "batch_size": 32, "steps": 40, "threads": 2}
    return defaults | {"learning_rate": 0.1} | changes


def torch_run(x, y, weights, rate, batches):
    """Losses of plain gradient descent by torch in float32."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 256), torch.nn.Tanh(), torch.nn.Linear(256, y.shape[1])
    )
    with torch.no_grad():
        for parameter, name in zip(
            model.parameters(), ("hidden", "hidden_bias", "output", "output_bias"), strict=True
        ):
            parameter.copy_(torch.from_numpy(weights[name]))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = []
    for inputs, targets in batches:
        loss = torch.nn.functional.mse_loss(model(torch.from_numpy(inputs)), torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_simple_table_is_learned_with_all_defaults(tmp_path):
    """All inputs positive, most hidden values far from 0: a rate of 0.1 diverged."""
    x = np.random.default_rng(1).random((300, 2)) * 3
    rows = [f"{a},{b},{2 * a + b}" for a, b in x.tolist()]
    (tmp_path / "simple.csv").write_text("\n".join(["a,b,price", *rows]))
    made = weft.train(
        model="perceptron",
        data=str(tmp_path / "simple.csv"),
        targets="price",
        out=str(tmp_path / "r"),
        epochs=100,
    )
    assert made.best_loss < 0.05 * np.var(2 * x[:, 0] + x[:, 1])


def test_gradient_descent_is_that_of_torch(table):
    with weft.trainer(**settings(table)) as trainer:
        start = {name: weight.copy() for name, weight in trainer.weights.items()}
        batches = [trainer._parts.batches(step) for step in range(40)]
        losses = [step.loss for step in trainer]
        result = trainer.finish()
        held_out = trainer.evaluate()
    pairs = [
        (np.concatenate([s.x[s.rows[:, 0]] for s in b]), np.concatenate([s.targets[s.rows[:, 0]] for s in b]))
        for b in batches
    ]
    x, y = zip(*pairs, strict=True)
    expected = torch_run(x[0], y[0], start, 0.1, pairs)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[-1] < 0.7 * losses[0]
    assert held_out.perplexity is None and held_out.num_tokens == 25
    assert result.final is not None
    log = (table.parent / "run" / "log.jsonl").read_text()
    assert '"valid_loss"' in log and "accuracy" not in log and "null" not in log


def test_predictions_evaluation_and_torch(table, numbers, tmp_path):
    torch = pytest.importorskip("torch")
    weft.train(**settings(table))
    x, y = numbers
    with weft.load_perceptron(tmp_path / "run", threads=2) as model:
        got = model.predict(x)
        np.testing.assert_array_equal(model.predict(x[7]), got[7])
        with pytest.raises(ConfigError, match="rows of 3 numbers"):
            model.predict(x[:, :2])
    export_state(str(tmp_path / "run"), tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    hidden = torch.tanh(torch.from_numpy(x) @ state["hidden.weight"].T + state["hidden.bias"])
    expected = (hidden @ state["output.weight"].T + state["output.bias"]).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    measured = evaluate_perceptron(str(tmp_path / "run"), [str(table)])
    assert measured.loss == pytest.approx(float(np.square(got - y).mean()), rel=1e-5)
    names, rows = predict_table(str(tmp_path / "run"), [str(table)])
    assert names == ["sine", "product"]
    np.testing.assert_array_equal(rows, got)


@pytest.mark.parametrize("teams", [1, 2])
def test_the_same_bits_for_any_threads_and_after_a_stop(table, teams):
    def run(name, **changes):
        return settings(table, out=str(table.parent / name), slice_size=8, steps=12, **changes)

    whole = weft.train(**run("whole", threads=1)).weights_sha256
    assert weft.train(**run("threads", threads=3, teams=teams)).weights_sha256 == whole
    with weft.trainer(**run("stopped", threads=2)) as trainer:
        for step in trainer:
            if step.step == 5:
                break
    assert weft.train(resume=table.parent / "stopped").weights_sha256 == whole


def test_standardized_columns_become_plain_weights(table, tmp_path):
    names, *rows = table.read_text().splitlines()
    large = [",".join(str(float(v) * s + 300) for v, s in zip(r.split(","), (1e3, 5, 1, 1e4, 1), strict=True))
             for r in rows]  # fmt: skip
    table.write_text("\n".join([names, *large]))
    changes = {"standardize": True, "steps": 300}
    result = weft.train(**settings(table, **changes))
    assert result.loss < 0.2, "of a variance of 1"
    found = read_vectors(find_files([str(table)]).train, Columns((), ("sine", "product")))
    with weft.load_perceptron(tmp_path / "run") as model:
        errors = (model.predict(found.x) - found.y) / found.y.std(axis=0)
    assert np.square(errors).mean() < 0.25


def test_forms_of_tables(numbers, table, tmp_path):
    x, y = numbers
    np.savez(tmp_path / "named.npz", x=x, y=y)
    np.savez(tmp_path / "flat.npz", a=x[:, 0], b=x[:, 1], c=x[:, 2], sine=y[:, 0], product=y[:, 1])
    lines = table.read_text().splitlines()
    (tmp_path / "bare.csv").write_text("\n".join(lines[1:]))
    forms = [
        ("named.npz", Columns()),
        ("named.npz", Columns(("x",), ("y",))),
        ("flat.npz", Columns((), ("sine", "product"))),
        ("table.csv", Columns((), ("2",))),
        ("bare.csv", Columns(("3",), ("2",))),
        ("table.csv", Columns(("a", "b", "c"), ("sine", "product"))),
    ]
    for name, columns in forms:
        found = read_vectors(find_files([str(tmp_path / name)]).train, columns)
        np.testing.assert_array_equal(found.x, x)
        np.testing.assert_array_equal(found.y, y)


def test_parquet(numbers, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    x, y = numbers
    columns = {"a": x[:, 0], "b": x[:, 1].astype(np.float64), "y": y[:, 0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    found = read_vectors(find_files([str(tmp_path / "t.parquet")]).train, Columns((), ("y",)))
    np.testing.assert_array_equal(found.x, x[:, :2])


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a,b\n1,2\n3,x\n", Columns((), ("b",)), "table.csv, line 3: expected a number for 'b', got 'x'"),
        ("a,b\n1,2\n3,nan\n", Columns((), ("b",)), "line 3: expected a number for 'b', got 'nan'"),
        ("a,b\n1,2\n3\n", Columns((), ("b",)), "line 3: expected 2 columns, got 1"),
        ("a,b\n1,2\n", Columns((), ("c",)), "expected a column 'c', got a, b"),
        ("a,b\n", Columns((), ("b",)), "expected rows of numbers, got none"),
        ("a,b\n1,2\n", Columns((), ("2",)), "expected columns besides the targets"),
        ("a,b\n1,2\n", Columns(("a",), ("3",)), "expected from 1 to 2 columns, got 3"),
        ("a,b\n1,2\n", Columns(("a", "b"), ("b",)), "got 'b' as both"),
        ('a,b\n1,"2\n', Columns((), ("b",)), "expected comma-separated values"),
        ("", Columns((), ("b",)), "got an empty file"),
    ],
)
def test_bad_tables(tmp_path, content, columns, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises((DataError, ConfigError), match=message):
        read_vectors(find_files([str(tmp_path / "table.csv")]).train, columns)


def test_bad_archives_and_models(tmp_path, table):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="expected an NPZ archive"):
        read_vectors(find_files([str(tmp_path / "bad.npz")]).train, Columns())
    np.savez(tmp_path / "deep.npz", x=np.zeros((2, 2, 2)), y=np.zeros(2))
    with pytest.raises(DataError, match=r"arrays \[rows\] or \[rows, columns\]"):
        read_vectors(find_files([str(tmp_path / "deep.npz")]).train, Columns())
    with pytest.raises(ConfigError, match="Expected the model perceptron for vectors"):
        weft.train(**settings(table, model="gpt2-tiny"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelFileError, match=r"use weft\.load"):
        weft.load_perceptron(tmp_path / "other")
