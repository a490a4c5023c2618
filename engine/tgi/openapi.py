"""OpenAPI operations of TGI's and LoRAX's generate API, which a middleware answers."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from engine.tgi.middleware import COMPATIBLE, STREAM
from engine.tgi.schemas import GenerateBody, Generated

Document = dict[str, Any]

_PLACE = "#/components/schemas/{model}"
_SUMMARIES = {
    COMPATIBLE: "Complete as TGI and LoRAX do: a list of one, or with `stream` a stream.",
    STREAM: "Complete as TGI and LoRAX do, in a stream of tokens.",
}


def document_generate_api(app: FastAPI) -> None:
    """Add them to the application's document, before errors are added."""
    plain: Callable[[], Document] = app.openapi

    def openapi() -> Document:
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for path, summary in _SUMMARIES.items():
            operations = document["paths"].setdefault(path, {})
            operations["post"] = _operation(summary, schemas, streams=path == STREAM)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _operation(summary: str, schemas: Document, *, streams: bool) -> Document:
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    whole = {"application/json": {"schema": {"type": "array", "items": _add(Generated, schemas)}}}
    return {
        "tags": ["generate"],
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _add(GenerateBody, schemas)}},
        },
        "responses": {
            "200": {
                "description": "Generated text",
                "content": events if streams else {**whole, **events},
            }
        },
    }


def _add(model: type[BaseModel], schemas: Document) -> Document:
    schema = model.model_json_schema(ref_template=_PLACE)
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return {"$ref": _PLACE.format(model=model.__name__)}
