"""How the server listens, and what it takes on."""

from __future__ import annotations

from dataclasses import dataclass

from weft.config import check_count, parse_bytes, setting
from weft.errors import ConfigError

_OTHER_CONNECTIONS = 512  # besides those with answers under way: kept alive, or about to be refused


@dataclass(frozen=True)
class ServerConfig:
    """Settings of `weft serve` beside those of the engine. Raises ConfigError for a value that cannot be."""

    host: str = setting("127.0.0.1", "--host", help="Address to listen on.")
    port: int = setting(8000, "--port", help="Port to listen on; 0 takes a free one.")
    served_name: str | None = setting(
        None, "--served-name", help="Name of the model in the API; by default the name it was loaded by."
    )
    api_key_file: str | None = setting(
        None, "--api-key-file", help="Ask for one of the keys in this file, one a line."
    )
    max_queue: int = setting(
        512, "--max-queue", help="Answers under way and waiting at once; requests beyond get status 429."
    )
    max_connections: int | None = setting(
        None,
        "--max-connections",
        help="Connections at once; more are refused with status 429. By default 512 more than --max-queue.",
    )
    max_wait: float = setting(
        60.0, "--max-wait", help="Seconds until an answer's first token; after them the request gets 503."
    )
    max_body: int | str = setting(
        "8MiB", "--max-body", help="Largest body of a request; a larger one gets status 413."
    )
    shutdown_time: float = setting(
        30.0, "--shutdown-time", help="Seconds that running answers are given after SIGTERM."
    )
    cors_origin: str | None = setting(
        None, "--cors-origin", help="Let pages of this origin use the API, such as https://example.org."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"Expected a port from 0 to 65535, got {self.port}; choose one in between.")
        check_count("max_queue", self.max_queue)
        if self.max_connections is None:
            object.__setattr__(self, "max_connections", self.max_queue + _OTHER_CONNECTIONS)
        check_count("max_connections", self.num_connections)
        for name in ("max_wait", "shutdown_time"):
            if not 0 < getattr(self, name) <= 86400:
                raise ConfigError(
                    f"Expected {name} above 0 to 86400 seconds, got {getattr(self, name):g}; change it."
                )
        object.__setattr__(self, "max_body", parse_bytes(self.max_body))

    @property
    def num_connections(self) -> int:
        """Connections that may be there at once."""
        assert self.max_connections is not None, "set when it was made"
        return self.max_connections

    @property
    def max_body_bytes(self) -> int:
        """The largest body of a request, in bytes."""
        return parse_bytes(self.max_body)
