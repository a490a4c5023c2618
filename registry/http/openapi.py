"""OpenAPI post-processing: error media types and the responses of middleware."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from registry.catalog.schemas import Problem
from registry.http.dialects import MEDIA_TYPE, is_anthropic, is_tgi

Document = dict[str, Any]

_PREFIX = "/api/"
_PROBES = frozenset({"/healthz", "/readyz"})
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
# OpenAI's error format, as vLLM's own routes have it
_OPENAI = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "type", "code"]}},
}
_ANTHROPIC = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {"error": {"type": "object", "required": ["type", "message"]}},
}
_TGI = {
    "type": "object",
    "required": ["error", "error_type", "code"],
    "properties": {name: {"type": "string"} for name in ("error", "error_type", "code")},
}
# what its routes refuse; the layers around them answer as on vLLM's
_DYNAMO = {
    "anyOf": [
        {
            "type": "object",
            "required": ["status", "message", "code"],
            "properties": {name: {"type": "string"} for name in ("status", "message", "code")},
        },
        _OPENAI,
    ]
}
_DYNAMO_PATH = "/v1/loras"
_MEANINGS = {
    400: "The request can't be read",
    401: "There is no API key, or no good one",
    403: "Not with this API key, or not at all",
    404: "There is no such thing",
    408: "The request's body came too slowly",
    409: "Not in the state that it is in",
    410: "It was retired",
    413: "The request's body is too large",
    422: "The request is not what the route takes",
    429: "Too much at a time",
    503: "Something that is needed is not there",
}
_DESCRIPTION = """\
The registry and the cache of Adaptry are under `/api/v1`; the rest is vLLM's own API, where the
`model` of a request is an adapter's `name`, `name@alias` or `name:version`.

Where the server requires keys, choose *Authorize* and enter one."""
_TAGS = {
    "registry": "Adapters, versions and aliases: register, find, promote, roll back, retire.",
    "jobs": "Registrations in the background.",
    "cache": "What is in GPU slots and host memory, why, and how to change it.",
    "events": "Every change: who, when, what.",
    "webhooks": "Endpoints that receive every change.",
    "keys": "API keys and their scopes.",
    "tenants": "Tenants, their limits, and what is granted to them.",
    "generate": "Text in, text out.",
    "lora": "Loading and unloading as vLLM's clients do it.",
    "health": "Probes.",
}
_OTHERS = "vLLM"
_SECURITY = {"type": "http", "scheme": "bearer", "description": "An API key: adp_…"}
_ALWAYS = (401, 403, 429, 503)
_WITH_BODY = (400, 408, 413)
_ENGINE = (400, 401, 403, 404, 408, 409, 410, 413, 429, 503)


def document_errors(app: FastAPI) -> None:
    """Complete the document of an application with middleware around its routes."""
    plain: Callable[[], Document] = app.openapi

    def openapi() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = complete_errors(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def complete_errors(document: Document) -> Document:
    """Add schemas and responses of errors, in place.

    Routes list their status codes without a model: FastAPI would make a field for each, which would
    be most of a router's cost.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas[Problem.__name__] = Problem.model_json_schema()
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    for path, operations in document["paths"].items():
        for method in _METHODS & operations.keys():
            operation = operations[method]
            if path.startswith(_PREFIX):
                _describe_problems(operation)
            elif path in _PROBES:
                _describe_refused_parameters(operation)
            elif method == "post" or path.startswith("/v1/"):
                _describe_engine_errors(operation, _error_schema(path))
    _group(document)
    if (
        vllm_error := document.get("components", {}).get("schemas", {}).get("ErrorInfo")
    ) is not None:
        # Adaptry's codes are strings, as OpenAI's are; vLLM's are numbers
        vllm_error["properties"]["code"] = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    return document


def _group(document: Document) -> None:
    """Ours first, by subject; vLLM's routes after them. A key may be entered once for all."""
    groups = {**_TAGS, _OTHERS: "vLLM's own routes."}
    for operation in _operations(document):
        operation["tags"] = [next(iter(operation.get("tags") or [_OTHERS]))]
        groups.setdefault(operation["tags"][0], "")
    order = list(groups)
    document["tags"] = [{"name": name, "description": text} for name, text in groups.items()]
    document["paths"] = dict(
        sorted(document["paths"].items(), key=lambda item: _place(item[1], order))
    )
    document["info"]["description"] = _DESCRIPTION
    document["components"]["securitySchemes"] = {"key": _SECURITY}
    document["security"] = [{"key": []}, {}]


def _operations(document: Document) -> Iterator[Document]:
    for operations in document["paths"].values():
        yield from (operations[method] for method in sorted(_METHODS & operations.keys()))


def _place(operations: Document, order: Sequence[str]) -> int:
    found = (operations[method] for method in _METHODS & operations.keys())
    return min((order.index(operation["tags"][0]) for operation in found), default=len(order))


def _describe_problems(operation: Document) -> None:
    answers = operation["responses"]
    for status in _ALWAYS + (_WITH_BODY if "requestBody" in operation else ()):
        answers.setdefault(str(status), {"description": _MEANINGS[status]})
    for status, answer in answers.items():
        if status[0] in "45":
            answer["content"] = {MEDIA_TYPE: {"schema": _PROBLEM}}


def _error_schema(path: str) -> Document:
    if is_anthropic(path):
        return _ANTHROPIC
    if path.startswith(_DYNAMO_PATH):
        return _DYNAMO
    return _TGI if is_tgi(path) else _OPENAI


def _describe_refused_parameters(operation: Document) -> None:
    refused = {"description": _MEANINGS[422], "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
    operation["responses"]["422"] = refused


def _describe_engine_errors(operation: Document, schema: Document) -> None:
    for status in _ENGINE:
        content = {JSONResponse.media_type: {"schema": schema}}
        answer = {"description": _MEANINGS[status], "content": content}
        operation["responses"].setdefault(str(status), answer)
