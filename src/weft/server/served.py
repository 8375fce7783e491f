"""What is served under which name: the model, and each of its adapters."""

from __future__ import annotations

from dataclasses import dataclass

from weft.errors import ConfigError
from weft.server.errors import ApiError
from weft.tasks.model import DEFAULT_ADAPTER, Model


@dataclass(frozen=True)
class Served:
    """A model by `name`; requests that name one of its adapters are answered with that."""

    model: Model
    name: str

    @property
    def names(self) -> list[str]:
        """All that a request may name as its model."""
        adapters = [name for name in self.model.adapters.names if name != DEFAULT_ADAPTER]
        return [self.name, *adapters]

    def adapter(self, name: str | None) -> int:
        """The number of the adapter that a request for model `name` is answered with. Raises ApiError."""
        if name is None or name == self.name:
            return self.model.adapters.number(None)
        if name not in self.names:
            shown = ", ".join(self.names[:8]) + (", …" if len(self.names) > 8 else "")
            raise ApiError(
                404,
                f"Expected a model among {shown}, got {name[:200]!r}; ask for what is served.",
                code="model_not_found",
                param="model",
            )
        return self.model.adapters.number(name)

    def load_adapters(self, named: tuple[str, ...]) -> None:
        """Loads adapters, each as NAME=PATH or as the path of a folder of that name.

        Raises ConfigError for a name that is taken, and as `Model.load_adapter` does.
        """
        for text in named:
            name, equals, path = text.partition("=")
            if not equals:
                name, path = text.rstrip("/").rsplit("/", 1)[-1], text
            self.load_adapter(name, path)

    def load_adapter(self, name: str, path: str) -> None:
        """Loads the adapter at `path`. Raises as `load_adapters` does."""
        if name == self.name:
            raise ConfigError(
                f"Expected an adapter by another name than the model's, got {name}={path}; choose another."
            )
        self.model.load_adapter(path, name)
