"""A training run of the tiny model in a folder; as a script, one that tests kill.

    python -m support.tiny_run FOLDER [--steps N] [--delay S] [--file-limit BYTES]

begins the run or goes on with it, and prints the checksum of the final weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from support.byte_tokenizer import byte_tokenizer
from support.tiny_trainable import NumpyUpdate, TinyTrainable

from weft.train.config import TrainConfig
from weft.train.data.batches import Batches
from weft.train.data.dataset import DataSettings, load_dataset
from weft.train.data.files import find_files
from weft.train.evaluate import bytes_of_tokens, evaluate
from weft.train.optimizer import Optimizer, UpdateRule
from weft.train.report import Callback
from weft.train.run_folder import RunFolder
from weft.train.schedules import Schedule
from weft.train.trainer import Trainer, TrainingParts

TEXT = "The quick brown fox jumps over the lazy dog. " * 40


def tiny_trainer(
    folder: Path,
    callbacks: Sequence[Callback] = (),
    model: TinyTrainable | None = None,
    data: Path | None = None,
    sample: Any = None,
    **settings: Any,
) -> Trainer:
    """A trainer in `folder`, resumed where the folder holds a run. `settings`: those of TrainConfig."""
    if data is None:
        data = folder.parent / "tiny-data.txt"
        data.write_text(TEXT)
    defaults = {"model": "tiny", "data": (str(data),), "out": str(folder), "batch_size": 4, "steps": 12}
    defaults |= {"max_seq_length": 16, "slice_size": 2, "save_every": 3, "eval_every": 0, "seed": 5}
    config = TrainConfig(**(defaults | {"optimizer": "adamw", "learning_rate": 0.05} | settings))
    held = RunFolder(folder)
    tokenizer = byte_tokenizer()
    dataset = load_dataset(
        find_files(config.data), tokenizer, None, 258, DataSettings(16, False, 0.1, config.seed)
    )
    model = model or TinyTrainable()
    rule = UpdateRule(config.optimizer, 0.9, 0.95, 1e-8, 0.01, config.momentum, config.nesterov)
    steps = config.steps or 12
    parts = TrainingParts(
        model=model,
        optimizer=Optimizer(rule, config.clip_norm, model.weights, model.gradients, NumpyUpdate()),
        schedule=Schedule("cosine", config.learning_rate or 0.05, 0.001, steps, 2, 0),
        batches=Batches(dataset.train, config.rows_per_step, config.rows_per_slice, config.seed),
        data_key=dataset.key,
        export=lambda path: path.mkdir(exist_ok=True),
        evaluate=dataset.valid
        and partial(
            evaluate,
            model.evaluate,
            dataset.valid,
            config.rows_per_slice,
            config.eval_tokens,
            bytes_of_tokens(tokenizer, 258),
        ),
        sample=sample,
    )
    trainer = Trainer(config, parts, held, callbacks)
    if RunFolder.holds_run(folder):
        trainer.resume()
    else:
        held.begin(config)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--file-limit", type=int)
    arguments = parser.parse_args()
    if arguments.file_limit:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_limit, arguments.file_limit))
    model = TinyTrainable(features=arguments.features, delay_s=arguments.delay)
    with tiny_trainer(arguments.folder, model=model, steps=arguments.steps) as trainer:
        print(trainer.run().weights_sha256)


if __name__ == "__main__":
    main()
