"""Runs requests through the engine, many at once, and writes their results in the requests' order."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from weft.batch.requests import CHAT, BatchRequest
from weft.batch.results import ResultFile
from weft.errors import BatchError, WeftError
from weft.serve.limits import EngineStatistics
from weft.serve.sequence import Sequence
from weft.server.body import decode
from weft.server.chat_completions import CHAT_DECODER, ChatRequest, ChatWork
from weft.server.completions import COMPLETION_DECODER, CompletionRequest, CompletionWork
from weft.server.errors import ApiError, of_weft
from weft.server.served import Served
from weft.tasks.completion import AnswerReader
from weft.train.interruption import Interruption

# Requests are read ahead until so many times the answers that run at once are with the engine or wait to be
# written: a long answer does not hold up those after it, and memory stays bounded.
_AHEAD = 4

B = TypeVar("B", ChatRequest, CompletionRequest)


class Progress(Protocol):
    """Is told how far a batch has come."""

    def stepped(self, statistics: EngineStatistics) -> None:
        """After each step of the engine."""

    def wrote(self, failed: bool) -> None:
        """After each result."""


@dataclass
class BatchSummary:
    """What a run of a batch has done: results that were there before, written now, and errors among these."""

    num_before: int
    num_written: int = 0
    num_failed: int = 0


class BatchRun:
    """One run over `requests`, from the first without a result on. For one thread.

    settings: sampling settings for what a request leaves out.
    """

    def __init__(
        self, served: Served, settings: Mapping[str, Any], results: ResultFile, progress: Progress
    ) -> None:
        self._served = served
        self._model = model = served.model
        self._settings = settings
        self._results = results
        self._progress = progress
        self._pending: deque[_Pending] = deque()
        self._num_pending = 0  # answers of `_pending`
        self._num_submitted = 0
        self._finished_before = model.engine.statistics.num_finished
        self._exhausted = False
        self.summary = BatchSummary(len(results.names))

    def run(self, requests: Iterator[BatchRequest]) -> None:
        """Writes the results that are missing. On the first Ctrl-C those that have come are written.

        Raises BatchError where those that are there are of other requests, OSError where they cannot be
        written, KeyboardInterrupt.
        """
        self._skip(requests)
        engine = self._model.engine
        try:
            with Interruption() as interruption:
                while not interruption.requested and self._take(requests):
                    engine.run_until(lambda: interruption.requested or self._pause())
                    self._write_ready()
        finally:
            engine.cancel([sequence for item in self._pending for sequence in item.sequences])
        self._results.sync()
        if interruption.requested:
            raise KeyboardInterrupt

    def _skip(self, requests: Iterator[BatchRequest]) -> None:
        for number, name in enumerate(self._results.names, start=1):
            request = next(requests, None)
            if request is None or request.custom_id != name:
                came = "none" if request is None else repr(request.custom_id)
                raise BatchError(
                    f"{self._results.path}, line {number}: expected results in the order of the requests, "
                    f"got one of {name!r} for request {came}; begin anew with --restart, or write elsewhere."
                )

    def _take(self, requests: Iterator[BatchRequest]) -> bool:
        """Hands requests to the engine while there is room; whether anything is under way."""
        limit = _AHEAD * self._model.config.max_running
        while not self._exhausted and (self._num_pending < limit or not self._pending):
            request = next(requests, None)
            if request is None:
                self._exhausted = True
                break
            item = _Pending(self._served, self._settings, request)
            self._pending.append(item)
            self._num_pending += len(item.sequences)
            self._num_submitted += len(item.sequences)
        return bool(self._pending)

    def _pause(self) -> bool:
        """Between steps: whether there is something to write, or too little left to do."""
        statistics = self._model.engine.statistics
        self._progress.stepped(statistics)
        if self._pending[0].is_done:
            return True
        under_way = self._num_submitted - (statistics.num_finished - self._finished_before)
        room = _AHEAD * self._model.config.max_running - self._num_pending
        return not self._exhausted and room > 0 and under_way < self._model.config.max_running

    def _write_ready(self) -> None:
        while self._pending and self._pending[0].is_done:
            item = self._pending[0]
            result, failed = item.result()
            self._results.append(result)
            self._pending.popleft()
            self._num_pending -= len(item.sequences)
            self.summary.num_written += 1
            self.summary.num_failed += failed
            self._progress.wrote(failed)


class _Pending:
    """A request with the engine, or what was wrong with it."""

    def __init__(self, served: Served, settings: Mapping[str, Any], request: BatchRequest) -> None:
        self._request = request
        self._problem = request.problem
        self.sequences: list[Sequence] = []
        if self._problem is None:
            try:
                self._begin(served, settings)
            except ApiError as error:
                self._problem = error

    @property
    def is_done(self) -> bool:
        """Whether its result can be written."""
        return all(sequence.finished for sequence in self.sequences)

    def result(self) -> tuple[bytes, bool]:
        """Its line, and whether it is an error. Raises what went wrong in the engine itself."""
        response = error = None
        if self._request.problem is not None:
            error = self._request.problem.content["error"]
        elif self._problem is not None:
            response = _response(self._problem.status, self._problem.content)
        else:
            response = _response(200, self._answer())
        line = {
            "id": "batch_req_" + secrets.token_hex(12),
            "custom_id": self._request.custom_id,
            "response": response,
            "error": error,
        }
        return msgspec.json.encode(line), self._problem is not None

    def _begin(self, served: Served, settings: Mapping[str, Any]) -> None:
        self._work: ChatWork | CompletionWork
        if self._request.url == CHAT:
            chat = _prepared(decode(CHAT_DECODER, self._request.body), settings)
            self._work = ChatWork(served, chat)
        else:
            plain = _prepared(decode(COMPLETION_DECODER, self._request.body), settings)
            self._work = CompletionWork(served, plain)
        try:
            served.model.engine.submit(self._work.sequences)
        except WeftError as error:
            raise of_weft(error) from error
        self.sequences = self._work.sequences
        self._readers = [AnswerReader(sequence, served.model.tokenizer) for sequence in self.sequences]

    def _answer(self) -> dict[str, Any]:
        for sequence in self.sequences:
            if sequence.error is not None:
                raise sequence.error
        return self._work.whole([reader.completion() for reader in self._readers])


def _response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": secrets.token_hex(8), "body": body}


def _prepared(body: B, settings: Mapping[str, Any]) -> B:
    """`body` with `settings` in place of what it leaves out. Raises ApiError for what a batch cannot do."""
    if body.stream:
        raise ApiError(400, "Expected no stream in a batch, got one; leave it out.", param="stream")
    for field, value in settings.items():
        if field == "logprobs" and body.logprobs is None and isinstance(body, ChatRequest):
            body.logprobs, body.top_logprobs = True, value
        elif field == "max_tokens" and isinstance(body, ChatRequest) and body.max_completion_tokens:
            continue
        elif getattr(body, field) is None:
            setattr(body, field, list(value) if isinstance(value, tuple) else value)
    return body
