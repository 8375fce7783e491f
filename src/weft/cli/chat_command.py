"""weft chat: a conversation with a model in the terminal, or one turn a line from a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from weft.cli.adapter_flags import adapter_flags, check_use, default_and_named, use_adapter_flag
from weft.cli.options import engine_flags, flag, given, model_flag, one_model, sampling_flags
from weft.config import EngineConfig
from weft.serve.sampling import SamplingParams

if TYPE_CHECKING:
    from weft.tasks.chat import Conversation
    from weft.tasks.completion import Completion
    from weft.tasks.generate import Stream
    from weft.tasks.model import Model

_HELP = '''\
/clear         forget the conversation; the system text stays
/system TEXT   set the system text and forget the conversation; without TEXT show it, /system - drops it
/adapter NAME  answer with this adapter from now on; without NAME list them, /adapter - goes back
/help          show this
/exit          leave, as Ctrl-D does
A line that ends in \\ goes on in the next; lines between """ and """ are one message.
Ctrl-C stops an answer.'''


@click.command("chat")
@click.argument("name", required=False, metavar="[MODEL]")
@model_flag(required=False)
@adapter_flags
@use_adapter_flag
@flag("-p", "--prompt", help="Answer this one message and leave.")
@flag("--system", help="The system text: how the model shall answer.")
@flag("-n", "--max-tokens", type=int, help="Most tokens of an answer; by default what the context holds.")
@sampling_flags("max_tokens", "logprobs")
@engine_flags
@flag("-q", "--quiet", is_flag=True, help="No statistics.")
def command(name: str | None, model: str | None, **values: Any) -> None:
    """Talk with a model. Ctrl-C stops an answer, not the program; /help shows the commands.

    Where stdin is no terminal, each of its lines is a message.
    """
    settings = given(SamplingParams, values)
    engine = given(EngineConfig, values)
    SamplingParams(**settings)  # wrong settings are said before a model is loaded
    default, named = default_and_named(values.pop("adapters"))
    check_use(values["adapter"], named)
    engine |= {"adapter": default, "adapters": named}
    _chat(one_model(name, model), engine, settings, **values)


def _chat(
    model: str,
    engine: dict[str, Any],
    settings: dict[str, Any],
    adapter: str | None,
    prompt: str | None,
    system: str | None,
    quiet: bool,
) -> None:
    # Here, since it brings numpy and the native core: `weft chat --help` needs neither.
    from weft.tasks.chat import Conversation
    from weft.tasks.model import load

    with load(model, **engine) as loaded:
        conversation = Conversation(loaded.chatter, system, loaded.adapters.number(adapter))
        conversation.check()  # a model without a chat template is refused before anybody types
        session = _Session(loaded, conversation, settings, quiet)
        if prompt is None:
            session.talk(model)
        elif session.answer(prompt):
            raise KeyboardInterrupt


class _Session:
    """A conversation between stdin and a model."""

    def __init__(
        self, model: Model, conversation: Conversation, settings: dict[str, Any], quiet: bool
    ) -> None:
        self._model = model
        self._conversation = conversation
        self._settings = settings
        self._quiet = quiet

    def talk(self, name: str) -> None:
        """Answers turns until stdin ends or /exit comes."""
        from weft.cli.line_input import LineInput
        from weft.io.cache_paths import cache_root

        lines = LineInput("> ", "… ", cache_root() / "chat-history")
        if lines.is_terminal and not self._quiet:
            print(f"{name}, {self._model.pool.num_threads} threads; /help shows the commands.")
        for text in lines.turns():
            if text.split(maxsplit=1)[:1] == ["/exit"]:
                break
            if text.startswith("/") and self._command(text):
                continue
            if text:
                self._turn(text, lines.is_terminal)
        else:
            if lines.is_terminal:
                print()  # Ctrl-D leaves the cursor behind the prompt

    def answer(self, text: str) -> bool:
        """Streams the answer to `text` and keeps it; True when Ctrl-C stopped it. Raises PromptError."""
        from weft.cli.output import Speedometer

        forgotten = self._conversation.num_forgotten
        speed = Speedometer()
        stream = self._conversation.ask(text, **self._settings)
        stopped = _write(stream, speed)
        completion = stream.completion
        self._conversation.answered(completion.text)
        if not completion.text.endswith("\n"):
            print(flush=True)
        dropped = self._conversation.num_forgotten - forgotten
        if dropped:
            print(f"[the context is full: {dropped} oldest messages were dropped]", file=sys.stderr)
        if not self._quiet:
            self._say_speed(speed, completion)
        return stopped

    def _turn(self, text: str, is_terminal: bool) -> None:
        from weft.errors import PromptError

        try:
            stopped = self.answer(text)
        except PromptError as error:
            if not is_terminal:
                raise
            print(f"weft: {error}", file=sys.stderr)
            return
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            self._conversation.take_back()  # before the first word, or twice
            return
        if stopped and not is_terminal:
            raise KeyboardInterrupt

    def _say_speed(self, speed: Any, completion: Completion) -> None:
        line = speed.line(completion, self._model.pool.num_threads)
        if sys.stderr.isatty() and sys.stdout.isatty():
            from weft.cli.tables import console

            console(stderr=True).print(line, style="dim", soft_wrap=True)
        else:
            print(line, file=sys.stderr)

    def _command(self, text: str) -> bool:
        """Follows a line that begins with a slash; False where it is a message after all, such as a path."""
        word, _, rest = text.partition(" ")
        if "/" in word[1:]:
            return False
        match word:
            case "/clear":
                self._conversation.clear()
                print("[cleared]")
            case "/system":
                self._set_system(rest.strip())
            case "/adapter":
                self._use_adapter(rest.strip())
            case "/help":
                print(_HELP)
            case _:
                print(
                    f"weft: Expected /clear, /system, /adapter, /help or /exit, got {word}.", file=sys.stderr
                )
        return True

    def _set_system(self, text: str) -> None:
        if not text:
            print(self._conversation.system or "[no system text]")
            return
        self._conversation.system = None if text == "-" else text
        self._conversation.clear()
        print("[system text set, conversation cleared]" if text != "-" else "[system text dropped]")

    def _use_adapter(self, name: str) -> None:
        from weft.errors import ConfigError

        adapters = self._model.adapters
        if not name:
            chosen = self._conversation.adapter
            listed = [f"*{n}" if adapters.number(n) == chosen else n for n in adapters.names]
            print(f"[adapters: {', '.join(listed) or 'none'}]")
            return
        try:
            self._conversation.adapter = adapters.number(None if name == "-" else name)
        except ConfigError as error:
            print(f"weft: {error}", file=sys.stderr)
            return
        print(f"[answers by {'the model as it was loaded' if name == '-' else name} from now on]")


def _write(stream: Stream, speed: Any) -> bool:
    """Writes an answer as it comes; True when Ctrl-C stopped it, which keeps what has come."""
    from weft.cli.output import write_text

    try:
        for piece in stream:
            speed.count(piece)
            write_text(piece.text)
    except KeyboardInterrupt:
        return True
    finally:
        stream.close()
    return False
