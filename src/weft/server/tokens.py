"""POST /tokenize and /detokenize: text to token ids and back."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from weft.errors import WeftError
from weft.server.body import read_struct
from weft.server.chat_completions import ChatMessage
from weft.server.errors import ApiError, json_response, of_weft
from weft.server.sampling_fields import decoder_of
from weft.server.service import Service


class TokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A text, or the messages of a conversation. add_special_tokens: whether a text gets the model's own."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1)] | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Token ids."""

    tokens: Annotated[list[Annotated[int, Meta(ge=0, lt=1 << 31)]], Meta(max_length=1 << 20)]
    model: str | None = None


_TOKENIZE = decoder_of(TokenizeRequest)
_DETOKENIZE = decoder_of(DetokenizeRequest)


async def tokenize(request: Request) -> Response:
    """The token ids of a text or of a conversation."""
    service: Service = request.app.state.service
    body: TokenizeRequest = await read_struct(request, _TOKENIZE, service.config.max_body_bytes)
    service.served.adapter(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "Expected either prompt or messages, got both or none; pass one.", param="prompt")
    ids = await asyncio.to_thread(_ids, service, body)
    return json_response({"tokens": ids, "count": len(ids), "max_model_len": service.model.max_context})


async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    service: Service = request.app.state.service
    body: DetokenizeRequest = await read_struct(request, _DETOKENIZE, service.config.max_body_bytes)
    service.served.adapter(body.model)
    decode = service.model.tokenizer.decode
    text = await asyncio.to_thread(lambda: decode(body.tokens, skip_special=False))
    return json_response({"prompt": text})


def _ids(service: Service, body: TokenizeRequest) -> list[int]:
    try:
        if body.prompt is not None:
            return service.model.tokenizer.encode(body.prompt, add_special=body.add_special_tokens)
        return service.model.chatter.tokens([message.plain() for message in body.messages or ()])
    except WeftError as error:
        raise of_weft(error, ("messages", "prompt")) from error
