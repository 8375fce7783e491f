"""The folder of a run: its settings, log, checkpoints and result, and a lock against a second process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any, Self

from weft.errors import TrainingError
from weft.io.atomic_file import write_atomically
from weft.train.config import TrainConfig, config_of
from weft.train.settings_file import read_settings, write_settings

_CONFIG, _LOG, _LOCK = "config.yaml", "log.jsonl", ".lock"


class RunFolder:
    """A run's folder, held by this process until it is closed. Raises TrainingError when another holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path)

    @staticmethod
    def holds_run(path: Path) -> bool:
        """Whether a run was begun in the folder."""
        return (path / _CONFIG).is_file()

    @property
    def log(self) -> Path:
        """One line a step, JSON."""
        return self.path / _LOG

    @property
    def checkpoints(self) -> Path:
        """A folder for each checkpoint."""
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        """The result, a Hugging Face folder."""
        return self.path / "final"

    def read_config(self) -> TrainConfig:
        """The settings that the run began with. Raises ConfigError."""
        return read_run_config(self.path)

    def begin(self, config: TrainConfig) -> None:
        """Writes what explains the run: config.yaml and README.md. Raises TrainingError."""
        try:
            # The settings come last: with them the folder holds a run.
            write_atomically(self.path / "README.md", _readme(config).encode())
            write_atomically(self.path / _CONFIG, write_settings(config).encode())
        except OSError as error:
            raise _not_writable(self.path, error) from error

    def close(self) -> None:
        """Lets another process have the folder. A second call does nothing."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_run_config(path: Path) -> TrainConfig:
    """The settings of the run in a folder, whoever holds it. Raises ConfigError."""
    return config_of(read_settings(path / _CONFIG))


def _locked(path: Path) -> IO[Any]:
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / _LOCK, "a+")  # noqa: SIM115 - open for as long as the folder is held
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read(20).strip() or "unknown"
        lock.close()
        raise TrainingError(
            f"{path}: expected a folder that no other process trains in, got one in use (process {holder}); "
            "wait for it, or choose another folder."
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _not_writable(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"{path}: expected a folder to write the run to, got: {error.strerror}; choose another one."
    )


def _readme(config: TrainConfig) -> str:
    how = "An adapter for" if config.lora else "A training run of"
    return f"""# {how} {config.model}

Trained by weft on {", ".join(config.data)}.

| here | what |
|---|---|
| `config.yaml` | every setting of the run |
| `log.jsonl` | a line a step: step, loss, learning_rate, tokens_per_second, and more |
| `checkpoints/step-N/` | what the run goes on from: weights, optimizer state, position in the data |
| `final/` | the result, once the run is done |

Go on after an interruption: `weft train --resume {_quoted(config.out)}`.
See its course: `weft plot {_quoted(config.out)}`.
"""


def _quoted(path: str | None) -> str:
    import shlex

    return shlex.quote(path or ".")
