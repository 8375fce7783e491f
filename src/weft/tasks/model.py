"""The model that `weft.load` gives: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from collections.abc import Sequence as List
from pathlib import Path
from typing import Any, Self

from weft.config import EngineConfig, check_count
from weft.errors import ConfigError, ModelFileError
from weft.io.fetch.sources import resolve
from weft.io.text.tokenizer import Tokenizer
from weft.machine import default_threads
from weft.models.adapter_bank import AdapterBank, AdapterWeights
from weft.models.build import build_plan
from weft.models.config import ModelConfig
from weft.models.loader import LoadedModel, load_model
from weft.plan import Plan
from weft.runtime import Executable, KvCache, Pool, Weight, compile, give_back_freed_memory, selected_isa
from weft.serve.engine import Engine
from weft.serve.kv_budget import plan_kv_budget
from weft.serve.limits import EngineLimits
from weft.serve.masks import MaskTable
from weft.serve.plan_runner import PlanRunner
from weft.serve.sampling import SamplingParams
from weft.serve.states import TextStates
from weft.tasks.adapters import Adapters, base_and_adapter, read_adapter
from weft.tasks.chat import Chatter, Message
from weft.tasks.completion import Completion
from weft.tasks.generate import Generator, Prompt, Stream
from weft.tasks.score import score
from weft.types import Array, DType

DEFAULT_ADAPTER = "default"  # the name of the one that `load` takes
MAX_SCORE_ROWS = 64  # rows of logits that a scoring step holds at once
LoadFunction = Callable[[Path, Pool, str | None], LoadedModel]
"""Gets a model's weights from a path, packed on a pool, requantized where asked."""
_RECOMMENDED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def load(
    model: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    adapters: Mapping[str, str | os.PathLike[str]] | None = None,
    threads: int | None = None,
    teams: int = EngineConfig.teams,
    quant: str | None = None,
    kv_dtype: str | None = None,
    max_context: int | None = None,
    kv_memory: int | str | None = None,
    max_rows: int = EngineConfig.max_rows,
    max_running: int = EngineConfig.max_running,
    draft_max: int = EngineConfig.draft_max,
) -> Model:
    """The model of that name, folder or file, ready to answer; of an adapter its model, with it.

    adapter: the folder of a LoRA adapter, or of the run that trained it, to answer with by default.
    adapters: others by the names that requests choose them by; `Model.load_adapter` loads more. Other
    keywords: see `EngineConfig`. Raises ModelNotFoundError, ModelFileError, ConfigError, UnsupportedError,
    OutOfMemoryError.
    """
    config = EngineConfig(
        threads, teams, quant, kv_dtype, max_context, kv_memory, max_rows, max_running, draft_max
    )
    model, adapter = base_and_adapter(model, adapter)
    loaded = Model(resolve(model), config)
    try:
        if adapter is not None:
            loaded.adapters.default = loaded.load_adapter(adapter, DEFAULT_ADAPTER)
        for name, path in (adapters or {}).items():
            loaded.load_adapter(path, name)
    except BaseException:
        loaded.close()
        raise
    return loaded


class Model:
    """A model on a pool of threads. Any thread may use it; close it to give back its memory.

    tokenizer: text to tokens and back. config: how it was loaded. max_context: the longest text of one
    request. adapters: those that requests choose among.
    """

    def __init__(self, path: Path, config: EngineConfig, load: LoadFunction = load_model) -> None:
        self.path = path
        self.config = config
        self.adapters = Adapters()
        self.pool = _make_pool(config)
        try:
            self._loaded = load(path, self.pool, config.quant)
            self._make_engine()
        except BaseException:
            self.pool.close()
            raise
        give_back_freed_memory()  # reading a vocabulary frees half of the heap that it took

    def generate(
        self,
        prompts: Prompt | List[Prompt],
        *,
        adapter: str | List[str | None] | None = None,
        **sampling: Any,
    ) -> list[Completion]:
        """An answer for each prompt (a text, or token ids), in their order; settings: `SamplingParams`.

        adapter: the name of one that is loaded, or a list with one for each prompt; by default that of
        `load`, or none. Raises PromptError, ConfigError; on Ctrl-C Interrupted, with the answers so far.
        """
        if adapter is None or isinstance(adapter, str):
            return self._generator.generate(prompts, self.adapters.number(adapter), **sampling)
        return self._generator.generate(prompts, [self.adapters.number(name) for name in adapter], **sampling)

    def stream(self, prompt: Prompt, *, adapter: str | None = None, **sampling: Any) -> Stream:
        """The answer to a prompt, piece by piece."""
        return self._generator.stream(prompt, self.adapters.number(adapter), **sampling)

    def chat(
        self, messages: str | List[Message], *, adapter: str | None = None, **sampling: Any
    ) -> Completion:
        """The answer to a conversation: a text, or messages as OpenAI has them. Raises TokenizerError."""
        return self.chatter.chat(messages, self.adapters.number(adapter), **sampling)

    def stream_chat(
        self, messages: str | List[Message], *, adapter: str | None = None, **sampling: Any
    ) -> Stream:
        """The answer to a conversation, piece by piece."""
        return self.chatter.stream(messages, self.adapters.number(adapter), **sampling)

    def score(self, texts: Prompt | List[Prompt], *, adapter: str | None = None) -> list[Array]:
        """For each text float32 [n − 1]: natural-log probability of each token after the first."""
        return score(self._generator, texts, self.adapters.number(adapter))

    def load_adapter(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Loads the LoRA adapter in the folder `path`, or of the run there; gives its name.

        name: what requests choose it by, by default the folder's name. Requests with other adapters and
        without run beside those with it, and wait no longer than a step meanwhile. Raises
        ModelNotFoundError, ModelFileError, UnsupportedError; ConfigError for a name that is taken.
        """
        name = Path(path).name if name is None else name
        self.adapters.check_new(name)
        adapter = read_adapter(path, self._loaded.config)
        self.engine.between_steps(lambda: self._add_adapter(name, adapter))
        return name

    def plan(self, rows: int | None = None, purpose: str = "generate") -> Plan:
        """The plan of a step of at most `rows` tokens: operations, shapes, FLOPs, bytes, memory. Print it."""
        rows = self.config.max_rows if rows is None else rows
        check_count("rows", rows)
        return self._plan(purpose, rows, min(rows, self._max_outputs(purpose)))

    @property
    def generator(self) -> Generator:
        """What makes requests of prompts."""
        return self._generator

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to tokens and back."""
        return self._loaded.tokenizer()

    @property
    def max_context(self) -> int:
        """The longest text of one request, prompt and answer together, in tokens."""
        return self.engine.limits.max_length

    def close(self) -> None:
        """Ends what runs with an error and gives back threads and memory. A second call does nothing."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _make_engine(self) -> None:
        loaded, config = self._loaded, self.config
        self.runner = PlanRunner(self._compile, self._copy_block, self.pool.close, config.teams)
        self.cache: KvCache | TextStates
        if isinstance(loaded.config, ModelConfig):
            self.cache, self._limits = self._make_cache(loaded.config)
            self.runner.executable("generate")
        else:
            self._limits = _state_limits(config, loaded.config.max_context)
            plan = self.runner.executable("generate").plan
            self.cache = self.runner.states = TextStates(plan, self._limits.num_blocks)
        seats, vocabulary = self._limits.max_seats, loaded.config.vocabulary_size
        num_outputs = self._limits.max_outputs if self._limits.draft_max else 0
        masks = MaskTable(self.runner.gate, seats, vocabulary, num_outputs)
        self.engine = Engine(self.runner, self._limits, masks=masks)
        self._generator = Generator(
            self.engine,
            loaded.tokenizer(),
            loaded.config.vocabulary_size,
            _end_ids(loaded),
            _defaults(loaded),
        )
        self.chatter = Chatter(self._generator, loaded.chat_template)

    def _make_cache(self, model: ModelConfig) -> tuple[KvCache, EngineLimits]:
        config, cache_type = self.config, model.cache_type(_kv_dtype(self.config, self._loaded.weights))
        budget = plan_kv_budget(config, model.max_context, cache_type.token_bytes * cache_type.layers)
        limits = EngineLimits(
            budget.max_context,
            budget.num_blocks,
            config.max_rows,
            MAX_SCORE_ROWS,
            config.max_running,
            config.draft_max,
        )
        return KvCache(cache_type, budget.num_blocks), limits

    def _copy_block(self, source: int, target: int) -> None:
        assert isinstance(self.cache, KvCache), "a text with a state has no second block"
        self.cache.copy_block(source, target)

    def _add_adapter(self, name: str, adapter: AdapterWeights) -> None:
        self.adapters.add(name, adapter)
        self.runner.forget_adapted()

    def _compile(self, purpose: str, adapts: bool = False) -> Executable:
        rows = self.config.max_rows if purpose == "generate" else MAX_SCORE_ROWS
        bank = self.adapters.bank if adapts else None
        plan = self._plan(purpose, rows, min(rows, self._max_outputs(purpose)), bank)
        caches = {"cache": self.cache} if plan.states and isinstance(self.cache, KvCache) else {}
        return compile(plan, self.pool, self._loaded.weights, caches)

    def _plan(self, purpose: str, rows: int, outputs: int, bank: AdapterBank | None = None) -> Plan:
        loaded = self._loaded
        return build_plan(
            loaded.config,
            loaded.weights,
            rows,
            outputs,
            purpose,
            self._limits.max_context,
            _kv_dtype(self.config, loaded.weights),
            bank=bank,
        )

    def _max_outputs(self, purpose: str) -> int:
        return self._limits.max_outputs if purpose == "generate" else MAX_SCORE_ROWS


def _kv_dtype(config: EngineConfig, weights: Mapping[str, Weight | Array]) -> DType:
    """What the cache holds: bfloat16 where attention can multiply it, but not beside float32 weights, which
    ask for exact answers.
    """
    if config.kv_dtype is not None:
        return DType(config.kv_dtype)
    is_exact = all(weight.type.kind == "f32" for weight in weights.values() if isinstance(weight, Weight))
    return DType.BF16 if selected_isa() == "avx512" and not is_exact else DType.F16


def _make_pool(config: EngineConfig) -> Pool:
    threads = config.threads or max(default_threads(), config.teams)
    return Pool(threads, config.teams)


def _state_limits(config: EngineConfig, model_context: int) -> EngineLimits:
    """The engine of a model that keeps a state of each text: a block is a text. A state that went on with a
    guess could not go back, so there are none.
    """
    context = min(config.max_context or model_context, model_context)
    return EngineLimits(
        context,
        2 * config.max_running,  # the scheduler leaves one free for each that decodes
        config.max_rows,
        MAX_SCORE_ROWS,
        config.max_running,
        block_tokens=context + 1,
    )


def _end_ids(loaded: LoadedModel) -> list[int]:
    """Every token that ends a text: by the generation settings, the configuration, the tokenizer."""
    listed: list[int] = list(loaded.tokenizer().eos_ids)
    for settings in (loaded.generation_config, loaded.settings):
        value = settings.get("eos_token_id")
        listed += [item for item in (value if isinstance(value, list) else [value]) if type(item) is int]
    return [token for token in listed if 0 <= token < loaded.config.vocabulary_size]


def _defaults(loaded: LoadedModel) -> dict[str, Any]:
    """What the model's files recommend for sampling."""
    settings: Mapping[str, Any] = loaded.generation_config
    recommended = {name: settings[name] for name in _RECOMMENDED if settings.get(name) is not None}
    try:
        SamplingParams(**recommended)
    except ConfigError as error:
        raise ModelFileError(f"generation_config.json of the model: {error}") from error
    return recommended
