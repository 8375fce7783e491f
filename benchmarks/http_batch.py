"""Short requests over HTTP, all at once, beside `Model.generate` on the same prompts.

python benchmarks/http_batch.py [MODEL] [--prompts 128] [--tokens 16] [--at-once 128] [--threads 2]

The answers are compared; the client runs on the same machine. The last line is JSON: tokens a second of both
and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from batch import prompts_of

import weft
from weft.cli.bench_serve import _server
from weft.tasks.load_client import Target, _body, _connect, _head


async def post(target: Target, body: dict) -> str:
    """The text of an answer that comes whole."""
    reader, writer = await _connect(target, "POST", "/v1/completions", json.dumps(body).encode())
    status, headers = await _head(reader)
    content = b"".join([part async for part in _body(reader, headers)])
    writer.close()
    assert status == 200, content
    return json.loads(content)["choices"][0]["text"]


async def send_all(target: Target, bodies: list[dict], at_once: int) -> tuple[float, list[str]]:
    """Seconds and answers."""
    room = asyncio.Semaphore(at_once)

    async def send(body: dict) -> str:
        async with room:
            return await post(target, body)

    begin = time.perf_counter()
    texts = await asyncio.gather(*map(send, bodies))
    return time.perf_counter() - begin, list(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    for name, default in (("prompts", 128), ("tokens", 16), ("at-once", 128), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    prompts = prompts_of(args.prompts)
    settings = {"max_tokens": args.tokens, "temperature": 0.0, "ignore_eos": True}
    with weft.load(args.model, threads=args.threads) as model:
        model.generate(prompts[:4], **settings)
        begin = time.perf_counter()
        answers = model.generate(prompts, **settings)
        engine = time.perf_counter() - begin
    bodies = [{"prompt": prompt, **settings} for prompt in prompts]
    with _server(args.model) as url:
        target = Target.of(url)
        asyncio.run(send_all(target, [{**bodies[0], "prompt": "warm up"}], 1))
        http, texts = asyncio.run(send_all(target, bodies, args.at_once))
    assert texts == [answer.text for answer in answers], "the answers differ"
    tokens = args.prompts * args.tokens
    told = {"engine_tokens_per_s": round(tokens / engine, 1), "http_tokens_per_s": round(tokens / http, 1)}
    print(json.dumps({**vars(args), **told, "ratio": round(engine / http, 4)}))


if __name__ == "__main__":
    main()
