"""A minimal HTTP front for OpenVINO GenAI's continuous batching, as its own server is not on PyPI.

    python openvino_server.py MODEL PORT THREADS

Streamed completions alone, a token an event, with nothing else around the pipeline: what a server of
OpenVINO's own would add is not counted against it. MODEL is a GGUF file or an exported folder.
"""

import asyncio
import json
import queue
import sys
import threading
from typing import Any

import openvino_genai

MAX_ROWS = 256  # of a step: prompts in chunks, so that running answers are not held up
MAX_RUNNING = 64


class Stepper:
    """Steps the pipeline on a thread of its own while there is work; hands tokens to the event loop."""

    def __init__(self, model: str, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        config = openvino_genai.SchedulerConfig()
        config.cache_size = 2
        config.enable_prefix_caching = False
        config.max_num_batched_tokens = MAX_ROWS
        config.max_num_seqs = MAX_RUNNING
        config.dynamic_split_fuse = True
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            model, config, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self.tokenizer = self.pipeline.get_tokenizer()
        self.loop = loop
        self.arriving: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self.run, daemon=True).start()

    def ask(self, prompt: str, max_tokens: int) -> asyncio.Queue[Any]:
        """A queue that gets the text of each token, then None."""
        answer: asyncio.Queue[Any] = asyncio.Queue()
        self.arriving.put((prompt, max_tokens, answer))
        return answer

    def run(self) -> None:
        """Takes requests, steps, gives out what came."""
        running: list[tuple[Any, asyncio.Queue[Any]]] = []
        number = 0
        while True:
            while not running or not self.arriving.empty():
                prompt, max_tokens, answer = self.arriving.get()
                settings = openvino_genai.GenerationConfig(
                    max_new_tokens=max_tokens, ignore_eos=True, do_sample=False
                )
                running.append((self.pipeline.add_request(number, prompt, settings), answer))
                number += 1
            self.pipeline.step()
            running = [(handle, answer) for handle, answer in running if self.give(handle, answer)]

    def give(self, handle: Any, answer: asyncio.Queue[Any]) -> bool:
        """Gives out the new tokens of a request; whether more will come."""
        finished = handle.get_status() != openvino_genai.GenerationStatus.RUNNING
        while handle.can_read():
            (output,) = handle.read().values()
            for token in output.generated_ids:
                self.loop.call_soon_threadsafe(answer.put_nowait, self.tokenizer.decode([token]))
        if finished:
            self.loop.call_soon_threadsafe(answer.put_nowait, None)
        return not finished


async def answer(stepper: Stepper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, one request."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (
                int(line.split(":")[1])
                for line in head.split("\r\n")
                if line.lower().startswith("content-len")
            ),
            0,
        )
        body = json.loads(await reader.readexactly(length)) if length else {}
        if "completions" in head.split()[1]:
            await stream(stepper, body, writer)
        else:
            listed = json.dumps({"object": "list", "data": [{"id": "model", "object": "model"}]})
            writer.write(_head("application/json", len(listed)) + listed.encode())
        await writer.drain()
    finally:
        writer.close()


async def stream(stepper: Stepper, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """The answer as server-sent events, the last of which says how many tokens it has."""
    writer.write(_head("text/event-stream"))
    count = 0
    tokens = stepper.ask(body["prompt"], body["max_tokens"])
    while (text := await tokens.get()) is not None:
        count += 1
        writer.write(_event({"choices": [{"index": 0, "text": text, "finish_reason": None}]}))
        await writer.drain()
    writer.write(_event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}))
    usage = {"prompt_tokens": 0, "completion_tokens": count, "total_tokens": count}
    writer.write(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")


def _head(kind: str, length: int | None = None) -> bytes:
    size = "" if length is None else f"content-length: {length}\r\n"
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{size}connection: close\r\n\r\n".encode()


def _event(content: dict[str, Any]) -> bytes:
    told = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": "model", **content}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


async def main() -> None:
    """Serves until it is ended."""
    model, port, threads = sys.argv[1:]
    stepper = Stepper(model, int(threads), asyncio.get_running_loop())
    server = await asyncio.start_server(lambda r, w: answer(stepper, r, w), "127.0.0.1", int(port))
    await server.serve_forever()


asyncio.run(main())
