"""vLLM's OpenAI application with our gateway, our routes and the registry's list of models."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import REGISTRY
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from engine.errors import EngineUnavailable
from engine.fanout.router import create_fanout_router
from engine.gateway.body_validation import stop_at_first_error
from engine.gateway.grammar_bounds import GrammarGate
from engine.gateway.in_flight import RequestLimit
from engine.gateway.middleware import AdapterGateway, RequestCounter
from engine.gateway.model_list import MODELS, ModelList
from engine.gateway.parsed_request import parse_bodies_once
from engine.gateway.query_parameters import refuse_unknown_parameters
from engine.gateway.request_context import RequestedAdapters, requested_adapter
from engine.ports import Resolver
from engine.realtime.engine import RealtimeEngine
from engine.realtime.gateway import RealtimeGateway
from engine.realtime.transcription import Controls
from engine.telemetry.spans import Tracing
from engine.tgi.info import ServerInfo, create_info_router, server_info
from engine.tgi.middleware import GenerateApi
from engine.tgi.openapi import document_generate_api
from engine.tgi.tokens import TokenTexts
from engine.trace.recorder import RequestTrace
from engine.types import GrammarLimits
from engine.vllm import compat as vllm_compat
from engine.vllm.admission.port import RequestAdmission
from engine.vllm.api_docs import serve_api_docs
from engine.vllm.backend import lora_request
from engine.vllm.engine_client import LeasedAsyncLLM
from engine.vllm.error_handlers import handle_errors
from engine.vllm.generate_api import router as generate_router
from engine.vllm.grammars.empty_grammars import accepts_nothing
from engine.vllm.log_privacy import hide_exception_texts
from engine.vllm.metric_patches import remove_lora_gauge, unregister_http_metrics
from engine.vllm.responses.background import follow_responses
from engine.vllm.responses.stored import StoredResponses
from engine.vllm.speech.languages import find_languages_by_base
from engine.vllm.token_costs.stream_models import build_streams_unchecked
from engine.vllm.tokenizing.bounds import bound_prompts
from engine.vllm.tokenizing.threads import share_media_thread, share_threads
from engine.vllm.training_defaults import serve_training_defaults
from engine.vllm.waits.leaving_clients import watch_clients_in_place
from engine.vllm.waits.single_prompts import render_single_prompts_at_once
from registry.auth.sender import current_sender
from registry.http.openapi import document_errors

API_PREFIX = "/api/"
_OFTEN_CALLED = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1/embeddings",
    f"{API_PREFIX}v1/adapters/{{name}}/versions",  # uploads
)


class EngineBinding:
    """Connects the application's routes to an engine, and to its successor when that has ended."""

    def __init__(
        self,
        app: FastAPI,
        arguments: Namespace,
        admission: RequestAdmission,
        grammars: GrammarLimits,
        responses: StoredResponses,
    ) -> None:
        self._app = app
        self._arguments = arguments
        self._admission = admission
        self._grammars = GrammarGate(grammars, current_sender, accepts_nothing)
        self._responses = responses

    async def bind(self, engine: LeasedAsyncLLM) -> None:
        """vLLM stores the engine, and the services created for it, in the application's state."""
        engine.admission = self._admission
        engine.grammars = self._grammars
        renderer = getattr(engine, "renderer", None)  # older vLLM has none
        share_threads(renderer)
        share_media_thread(renderer)
        bound_prompts(renderer)
        render_single_prompts_at_once(renderer)
        remove_lora_gauge(engine.logger_manager, REGISTRY)
        tasks = await engine.get_supported_tasks()
        await vllm_compat.init_app_state()(engine, self._app.state, self._arguments, tasks)
        serve_training_defaults(self._app.state._state.values())
        models = self._app.state.openai_serving_models
        models.lora_requests = RequestedAdapters(lora_request)
        _echo_requested_name(models)
        serving = getattr(self._app.state, "openai_serving_responses", None)
        follow_responses(serving, self._responses)
        for name in ("openai_serving_transcription", "openai_serving_translation"):
            find_languages_by_base(getattr(self._app.state, name, None))
        speech = getattr(self._app.state, "openai_serving_realtime", None)
        if speech is not None:
            speech.engine_client = RealtimeEngine(engine, lora_request)


async def build_application(
    engine: LeasedAsyncLLM,
    arguments: Namespace,
    *,
    unavailable: Callable[[], EngineUnavailable | None],
    resolver: Resolver,
    counter: RequestCounter,
    tracing: Tracing,
    metrics_route: Route,
    models: ModelList,
    routers: Sequence[APIRouter],
    guards: Sequence[Middleware],
    in_flight: RequestLimit,
    max_body_bytes: int,
    max_body_values: int,
    default_adapter: str | None,
    trace: RequestTrace,
    silent_speaker_seconds: float,
) -> FastAPI:
    """All of vLLM's routes and ours; nothing of vLLM's is re-implemented.

    To be bound to its engine before it serves. `guards` run before everything else.
    """
    tasks = await engine.get_supported_tasks()
    app: FastAPI = vllm_compat.build_app()(arguments, tasks, engine.model_config)
    app.title = "Adaptry"
    handle_errors(app)
    hide_exception_texts()
    build_streams_unchecked()
    base_models = arguments.served_model_name or [arguments.model]
    info_router = create_info_router(partial(_server_info, engine))
    for router in [*routers, generate_router, create_fanout_router(), info_router]:
        app.include_router(router)
    serve_api_docs(app)
    app.router.routes[:0] = [metrics_route, *_model_routes(models)]  # before vLLM's
    # last in the list is innermost: vLLM's own checks (API key, …) come before ours
    app.user_middleware.append(
        Middleware(
            GenerateApi,
            base_model=base_models[0],
            max_body_bytes=max_body_bytes,
            max_body_values=max_body_values,
            texts=_token_texts(app.state),
        )
    )
    app.user_middleware.append(
        Middleware(
            AdapterGateway,
            resolver=resolver,
            base_models=frozenset(base_models),
            counter=counter,
            tracing=tracing,
            unavailable=unavailable,
            in_flight=in_flight,
            own_prefix=API_PREFIX,
            max_body_bytes=max_body_bytes,
            max_body_values=max_body_values,
            trace=trace,
            default_adapter=default_adapter,
        )
    )
    if "realtime" in tasks:
        app.user_middleware.append(
            Middleware(
                RealtimeGateway,
                controls=Controls(
                    resolver, counter, in_flight, unavailable, trace, tracing, max_body_values
                ),
                base_models=frozenset(base_models),
                default_adapter=default_adapter,
                silence_seconds=silent_speaker_seconds,
            )
        )
    put_often_called_first(app.router.routes)
    stop_at_first_error(app.routes)
    watch_clients_in_place(app.routes)
    parse_bodies_once(app.routes)
    refuse_unknown_parameters(app.routes)
    app.user_middleware[:0] = guards
    document_generate_api(app)
    document_errors(app)
    unregister_http_metrics(REGISTRY)
    app.middleware_stack = None  # already built; Starlette builds it again at the first request
    return app


def _server_info(engine: Any) -> ServerInfo:
    config = engine.model_config
    return server_info(
        config.model,
        config.max_model_len,
        revision=config.revision,
        dtype=str(config.dtype).removeprefix("torch."),
        device=engine.vllm_config.device_config.device_type,
        generates=config.runner_type == "generate",
    )


def _token_texts(state: State) -> TokenTexts:
    """By the tokenizer of the engine that serves when they are asked for."""

    def texts(ids: Sequence[int]) -> list[str]:
        tokenizer = state.engine_client.renderer.get_tokenizer()
        return [str(tokenizer.decode([number])) for number in ids]

    return texts


def put_often_called_first(routes: list[BaseRoute]) -> None:
    """Starlette, and the middleware that counts requests, try one route after the other: twenty of
    vLLM's, and a hundred of ours, come before these. No two of them have a path in common.
    """
    places = {path: place for place, path in enumerate(_OFTEN_CALLED)}
    routes.sort(key=lambda route: places.get(getattr(route, "path", ""), len(places)))


def _echo_requested_name(models: Any) -> None:
    """`model` in a response echoes the request, not the engine's name for the version."""

    def model_name(request: Any = None) -> str:
        requested = requested_adapter() if request is not None else None
        return requested or str(models.base_model_paths[0].name)

    models.model_name = model_name


def _model_routes(models: ModelList) -> list[Route]:
    """`/v1/models` lists all models that the caller can use, loaded or not."""

    async def show_models(request: Request) -> Response:
        served = request.app.state.openai_serving_models.registry
        base = (await served.show_available_models()).model_dump()["data"]
        return await models.show(base, request)

    paths = (MODELS, f"{MODELS}/{{model:path}}")
    return [Route(path, show_models, methods=["GET"]) for path in paths]
