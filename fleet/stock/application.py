"""ASGI application in front of a stock server: resolves, leases, forwards under the engine name."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from engine.cache.controller import CacheController
from engine.errors import AdapterLost, EngineError
from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.middleware import RequestCounter
from engine.gateway.model_list import Card, ModelList
from engine.gateway.openai_errors import error_content, send_json, send_refusal
from engine.gateway.priority import check_priority
from engine.gateway.query_parameters import UNDECLARED, unknown_parameters_refusal
from engine.gateway.request_body import RequestBody, read_body
from engine.gateway.request_context import RequestContext
from engine.gateway.requested_model import read_requested_model
from engine.gateway.unknown_model import as_model_error
from engine.ports import Resolver
from engine.tgi.info import INFO, server_info
from engine.types import AdapterVersion
from fleet.stock import routes
from fleet.stock.accounts import StockAccounts, acquire_unless_left
from fleet.stock.answering import (
    AnswerCutShort,
    Answering,
    kept_headers,
    outcome_of,
    restore_model,
    whole_lines,
)
from fleet.stock.buffered_answer import AnswerHead, BufferedAnswer, ReaderStalled
from fleet.stock.client import StockVllm, check_not_lost
from fleet.stock.usage import AnswerUsage, usage_options
from registry.errors import RegistryError
from registry.http.json_shape import MAX_VALUES
from registry.http.leaving_client import end_tasks, until_left
from registry.telemetry.label_limit import UNKNOWN_ADAPTER

logger = logging.getLogger(__name__)


class StockApplication:
    """Forwards only the generating routes and a few that are read-only to the server."""

    def __init__(
        self,
        server: StockVllm,
        controller: CacheController,
        resolver: Resolver,
        counter: RequestCounter,
        *,
        base_models: Sequence[str],
        models: ModelList,
        max_body_bytes: int,
        stalled_reader_seconds: float,
        accounts: StockAccounts,
        max_body_values: int = MAX_VALUES,
        default_adapter: str | None = None,
    ) -> None:
        self._server = server
        self._controller = controller
        self._resolver = resolver
        self._counter = counter
        self._base_names = base_models
        self._default = DefaultAdapter(default_adapter, resolver, base_models)
        self._models = models
        self._max_body_bytes = max_body_bytes
        self._max_body_values = max_body_values
        self._stalled_reader_seconds = stalled_reader_seconds
        self._accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except EngineError as error:  # the response has not started
            self._counter.count_refusal(error.code)
            await send_refusal(send, error, path=scope["path"])
        except AnswerCutShort as cut:  # counted as failed
            logger.warning("an answer was cut short: %s", cut)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if not routes.is_served(method, path):
            detail = f"there is no {method} {path} here"
            await send_json(send, 404, error_content(path, 404, "not_found", detail))
            return
        known = UNDECLARED.get(path, frozenset())
        if (refusal := unknown_parameters_refusal(scope, path, known)) is not None:
            await refusal(scope, receive, send)
        elif path in routes.GENERATING or path in routes.TOKENIZING:
            await self._generate(scope, receive, send)
        elif path == INFO:
            info = server_info(*await self._server.base_model())
            await send_json(send, 200, info.model_dump())
        elif path in routes.READ:
            await self._forward(scope, b"", receive, Answering(send))
        else:
            shown = await self._models.show(self._base_models(), Request(scope))
            await shown(scope, receive, send)

    def _base_models(self) -> list[Card]:
        return [{"id": name, "object": "model", "owned_by": "vllm"} for name in self._base_names]

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            content = await read_body(
                receive, self._max_body_bytes, max_values=self._max_body_values
            )
            if content is None:
                return
            body = await self._default.apply(scope, RequestBody(content))
            check_priority(body.members.get("priority"))
            routes.check_response(scope["path"], body.members)
            version = await self._resolve(scope, body)
        except RegistryError as error:
            self._counter.count_refusal(error.code)
            self._counter.count_request(UNKNOWN_ADAPTER, "refused", 0.0)
            await send_refusal(send, error, path=scope["path"], param="model")
            return
        if version is not None and scope["path"] in routes.TOKENIZING:
            body, version = routes.for_base_model(body, self._base_names[0]), None
        if version is None:
            await self._forward_base(scope, body, receive, send)
            return
        started, outcome = time.monotonic(), "failed"
        try:
            outcome = await self._forward_leased(scope, body, version, receive, send)
        except AdapterLost:  # the next request of it finds out that it has to be loaded
            with suppress(EngineError):
                await self._controller.reconcile()
            raise
        except EngineError as error:
            outcome = outcome_of(error.status)
            raise
        finally:
            self._counter.count_request(version.adapter, outcome, time.monotonic() - started)

    async def _resolve(self, scope: Scope, body: RequestBody) -> AdapterVersion | None:
        named = read_requested_model(scope, body)
        model = named.model
        if model is None or model in self._base_names:
            return None
        try:
            return await self._resolver.resolve(model, named.draw)
        except RegistryError as error:
            raise as_model_error(error, model) from error

    async def _forward_base(
        self, scope: Scope, body: RequestBody, receive: Receive, send: Send
    ) -> None:
        asked = usage_options(scope["path"], body.members)
        content = json.dumps({**body.members, **asked}).encode() if asked else body.content
        usage = AnswerUsage(scope["path"], len(content), hides=bool(asked))
        try:
            await self._forward(scope, content, receive, Answering(send, usage=usage))
        finally:
            self._accounts.count(scope, usage, None)

    async def _forward_leased(
        self,
        scope: Scope,
        body: RequestBody,
        version: AdapterVersion,
        receive: Receive,
        send: Send,
    ) -> str:
        """How it ended. The lease ends with the server's work."""
        ending = asyncio.Event()
        context = self._controller.lease(version, ending.set)
        lease = await acquire_unless_left(context, receive)
        if lease is None:
            return "cancelled"
        asked = usage_options(scope["path"], body.members)
        usage = AnswerUsage(scope["path"], len(body.content), hides=bool(asked))
        release = self._accounts.lease(version, context.release)
        try:
            request = RequestContext(read_requested_model(scope, body).model, version, lease=lease)
            members = {**body.members, **asked, "model": version.engine_name}
            back = restore_model(version.engine_name, str(request.requested))
            answering = Answering(
                send, back, request.headers(), release, version, ending, usage=usage
            )
            return await self._forward(scope, json.dumps(members).encode(), receive, answering)
        finally:
            release()
            self._accounts.count(scope, usage, version)

    async def _forward(
        self, scope: Scope, body: bytes, receive: Receive, answering: Answering
    ) -> str:
        """How it ended. Raises EngineError if no response started, else AnswerCutShort once the
        client knows.
        """
        answer = BufferedAnswer(stalled_reader_seconds=self._stalled_reader_seconds)
        reading = asyncio.create_task(self._read(scope, body, answer, answering))
        work = asyncio.create_task(answering.send_all(answer))
        leaving = asyncio.create_task(until_left(receive))
        ending = asyncio.create_task(answering.ending.wait())
        try:
            await asyncio.wait([work, leaving, ending], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return outcome_of(await work)
            if leaving.done():
                return "cancelled"
            await end_tasks(reading, work)  # and the lease, however slowly the client reads
            await answering.force_out(answer, scope["path"])
        except ReaderStalled as error:
            raise ConnectionAbortedError(f"{self._server.url}: {error}") from error
        except httpx.HTTPError as error:
            failure = self._server.failure(error)
            if not answer.has_begun:
                raise failure from error
            await answering.cut_short(await answer.head(), failure, scope["path"])
        finally:
            await end_tasks(reading, work, leaving, ending)

    async def _read(
        self, scope: Scope, body: bytes, answer: BufferedAnswer, answering: Answering
    ) -> None:
        """Up to its end, which is that of the server's work; to leave earlier aborts that."""
        try:
            async with self._server.stream(
                scope["method"], scope["path"], routes.request_headers(scope), body
            ) as response:
                await check_not_lost(response, answering.version)
                answer.begin(AnswerHead(response.status_code, kept_headers(response.headers.raw)))
                usage = answering.usage
                usage.begin(response.status_code)
                async for lines in whole_lines(response.aiter_bytes()):
                    if shown := usage.read(lines):
                        await answer.add(shown)
                usage.end()
        except Exception as error:
            answer.end(error)
        else:
            answer.end()
        finally:
            answering.on_read()
