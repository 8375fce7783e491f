"""weft serve: a model over HTTP, with OpenAI's API."""

from __future__ import annotations

from typing import Any

import click

from weft.cli.options import engine_flags, flag, given, model_flag, one_model, setting_flags
from weft.config import EngineConfig
from weft.server.config import ServerConfig


@click.command("serve")
@click.argument("name", required=False, metavar="[MODEL]")
@model_flag(required=False)
@setting_flags(ServerConfig)
@engine_flags
@flag(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME=PATH",
    help="Also serve this adapter: its folder, or a run's; may be repeated.",
)
def command(name: str | None, model: str | None, **values: Any) -> None:
    """Answer requests over HTTP as OpenAI's API does, with a page to chat in, until Ctrl-C or SIGTERM.

    The address is printed once requests are taken. Requests are logged on stderr, without their texts.
    """
    engine = given(EngineConfig, values)
    config = ServerConfig(**given(ServerConfig, values))
    _serve(one_model(name, model), engine, config, values["adapters"])


def _serve(model: str, engine: dict[str, Any], config: ServerConfig, adapters: tuple[str, ...]) -> None:
    # Here, since they bring numpy, the native core and the server: `weft serve --help` needs none of them.
    from weft.server.access import read_keys
    from weft.server.served import Served
    from weft.server.service import Service
    from weft.server.serving import listen, serve
    from weft.tasks.model import load

    keys = read_keys(config.api_key_file) if config.api_key_file else ()
    with listen(config.host, config.port) as listening, load(model, **engine) as loaded:
        name = config.served_name or model.rstrip("/").rsplit("/", 1)[-1]
        served = Served(loaded, name)
        served.load_adapters(adapters)
        serve(Service(served, config, keys), listening)
