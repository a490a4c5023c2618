"""`POST /v1/fanout`: one prompt or conversation past several models, each with its own end.

Each model is asked on its own route, as by a client: its adapter is resolved and leased for itself.
No request holds one lease while it waits for another, so that fan-outs can't block each other;
where there are fewer slots than adapters, some wait for the others to end.

What several models read alike is computed once by vLLM's scheduler (0.26 to 0.33): the first
request takes what a step can compute until its prompt is done, and the next ones, which are
looked up when their turn comes, find its blocks, those of the same step too. To ask the base model
first would cost a turn where the prompt is in the cache, and save nothing where it is not.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError

from engine.fanout.inner_call import InnerAnswer, OnData, OnHead, call_inside
from engine.fanout.schemas import (
    FanoutAnswer,
    FanoutEvent,
    FanoutModel,
    FanoutRequest,
    FanoutResponse,
    FanoutUsage,
)
from engine.gateway.body_validation import first_error_validator
from engine.gateway.openai_errors import error_content
from engine.gateway.request_context import current_request
from engine.gateway.requested_model import FANOUT
from registry.http.headers import is_form
from registry.http.leaving_client import while_connected
from registry.http.unexpected_errors import describe_exception, report_internal

_VALIDATOR = first_error_validator(FanoutRequest.__pydantic_core_schema__)
MAX_BYTES = 2**28
"""Of the bodies for all models together: each has the prompt, and all are there together."""

_EVENTS_AHEAD = 64  # of a slow reader
_STREAM_DESCRIPTION = "With `stream`: Server-Sent Events, each with the `name` of its model."
_EVENTS = {"content": {"text/event-stream": {"schema": FanoutEvent.model_json_schema()}}}


def create_fanout_router() -> APIRouter:
    router = APIRouter(tags=["generate"])
    body = {"required": True, "content": {"application/json": {"schema": _body_schema()}}}

    @router.post(
        FANOUT,
        response_model=FanoutResponse,
        openapi_extra={"requestBody": body},
        responses={200: {"description": f"The answers by name. {_STREAM_DESCRIPTION}", **_EVENTS}},
    )
    async def fanout(raw_request: Request) -> Any:
        """Ask several models over one prompt or conversation, which is computed once for all that
        share it: the base model and activated adapters.

        The status is 200 even if models fail: each answer has its own. Where none streams and all
        refuse the prompt, it is 400.
        """
        asked = await _read_request(raw_request)
        running = _FanOut(raw_request, asked)
        answered = await while_connected(raw_request.receive, answer(running, asked))
        return Response() if answered is None else answered  # the client has left

    async def answer(running: "_FanOut", asked: FanoutRequest) -> Response | FanoutResponse:
        if asked.stream:
            if (request := current_request()) is not None:
                request.asks_within = True
            return StreamingResponse(running.stream(), media_type="text/event-stream")
        return await running.collect()

    return router


async def _read_request(request: Request) -> FanoutRequest:
    """Raises RequestValidationError."""
    if is_form(request.scope):  # which is not checked as JSON, and what is handed on is not again
        raise RequestValidationError(["a fan-out is JSON, and no form"])
    try:
        asked: FanoutRequest = _VALIDATOR.validate_python(await request.json())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
    except ValueError as error:
        invalid = {
            "type": "json_invalid",
            "loc": (),
            "msg": f"Invalid JSON: {error}",
            "input": None,
        }
        raise RequestValidationError([invalid]) from error
    if len(await request.body()) * len(asked.models) > MAX_BYTES and _is_too_large(asked):
        raise RequestValidationError([f"the bodies of its models have more than {MAX_BYTES} bytes"])
    return asked


def _is_too_large(asked: FanoutRequest) -> bool:
    shared = asked.model_dump(exclude={"models"})
    return len(json.dumps(shared)) * len(asked.models) > MAX_BYTES


def _body_schema() -> dict[str, Any]:
    """In one piece: of a body that FastAPI does not read, the document takes no definitions."""
    schema = FanoutRequest.model_json_schema()
    definition = json.dumps(schema.pop("$defs")["FanoutModel"])
    whole = json.dumps(schema).replace(json.dumps({"$ref": "#/$defs/FanoutModel"}), definition)
    found: dict[str, Any] = json.loads(whole)
    return found


class _FanOut:
    def __init__(self, request: Request, asked: FanoutRequest) -> None:
        self._app = request.app
        self._scope = request.scope
        self._asked = asked

    async def collect(self) -> Response | FanoutResponse:
        targets = self._asked.targets
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(target)) for target in targets]
        if all(task.result().status == 400 for task in tasks):
            return JSONResponse(tasks[0].result().content, 400)
        usage, answers = FanoutUsage(), {}
        for target, task in zip(targets, tasks, strict=True):
            answer = answers[target.answer_name] = _read(task.result())
            usage.add((answer.answer or {}).get("usage"))
        return FanoutResponse(answers=answers, usage=usage)

    async def _ask(
        self, target: FanoutModel, on_head: OnHead | None = None, on_data: OnData | None = None
    ) -> InnerAnswer:
        """An unexpected error is that of its model alone."""
        path = self._asked.path()
        try:
            body = self._asked.body(target)
            return await call_inside(
                self._app, self._scope, path, body, on_head=on_head, on_data=on_data
            )
        except Exception as error:
            internal = report_internal("POST", path, describe_exception(error))
            content = error_content(path, internal.status, internal.code, internal.detail)
            return InnerAnswer(internal.status, body=json.dumps(content).encode())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        events = asyncio.Queue[bytes | None](_EVENTS_AHEAD)
        asking = asyncio.create_task(self._ask_all(events))
        try:
            while (event := await events.get()) is not None:
                yield event
            await asking
            yield b"data: [DONE]\n\n"
        finally:
            asking.cancel()

    async def _ask_all(self, events: "asyncio.Queue[bytes | None]") -> None:
        async with asyncio.TaskGroup() as group:
            for target in self._asked.targets:
                group.create_task(self._pass_on(target, events))
        await events.put(None)

    async def _pass_on(self, target: FanoutModel, events: "asyncio.Queue[bytes | None]") -> None:
        name = target.answer_name

        async def begin(answer: InnerAnswer) -> None:
            if answer.status < 400:
                await events.put(_event({"name": name, **_head(answer)}))

        async def pass_on(data: bytes) -> None:
            kind = b"error" if data.startswith(b'{"error"') else b"chunk"
            content = data if kind == b"chunk" else json.dumps(json.loads(data)["error"]).encode()
            encoded = json.dumps(name).encode()
            await events.put(b'data: {"name": %b, "%b": %b}\n\n' % (encoded, kind, content))

        answer = await self._ask(target, on_head=begin, on_data=pass_on)
        if answer.status >= 400:
            failed = _read(answer)
            await events.put(_event({"name": name, **_head(answer), "error": failed.error}))


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def _head(answer: InnerAnswer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "version": answer.headers.get("x-adaptry-version"),
        "invocation": answer.headers.get("x-adaptry-invocation"),
    }


def _read(answer: InnerAnswer) -> FanoutAnswer:
    content = answer.content
    found = content if isinstance(content, dict) else {}
    if answer.status < 400:
        return FanoutAnswer(**_head(answer), answer=found)
    error = found.get("error")
    return FanoutAnswer(**_head(answer), error=error if isinstance(error, dict) else found)
