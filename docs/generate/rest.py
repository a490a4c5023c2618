"""The page of our own HTTP routes, from the OpenAPI document of an application that has them."""

from collections.abc import Iterator
from typing import Any

from docs.generate import schemas
from docs.generate.markdown import code, page, prose, table
from docs.generate.schemas import Schema, fields, kind_of, link

Document = dict[str, Any]
OWN_PREFIX = "/api/"
OWN_PATHS = ("/generate", "/v1/fanout", "/healthz", "/readyz")
METHODS = ("get", "post", "put", "patch", "delete")
INTRODUCTION = """\
These are the routes of Adaptry. A running server describes them too, at `/docs`, and as an OpenAPI
document at `/openapi.json`.

`/v1/chat/completions`, `/v1/completions`, `/v1/models` and all other routes that are not listed
here are vLLM's own, in the same process:
[vLLM's OpenAI-compatible server](https://docs.vllm.ai/en/latest/serving/openai_compatible_server/).
Their `model` may be any reference, such as `support`, `support@prod` or `support:3`.

Errors of the routes below are problem details (RFC 9457) with a stable `code`:
[error codes](errors.md).
`GET /metrics` is the text format of Prometheus."""


def own_paths(document: Document) -> dict[str, Any]:
    """The routes of this project; the rest are vLLM's."""
    return {
        path: operations
        for path, operations in document["paths"].items()
        if path.startswith(OWN_PREFIX) or path in OWN_PATHS
    }


def own_operations(document: Document) -> Iterator[tuple[str, str, Any]]:
    """(tag, heading, operation), in an order that does not depend on who included which router."""
    found = [
        (operation.get("tags", ["other"])[0], f"{method.upper()} {path}", operation)
        for path, operations in own_paths(document).items()
        for method, operation in operations.items()
        if method in METHODS
    ]
    yield from sorted(found, key=lambda each: (each[0], each[1].partition(" ")[2], each[1]))


def rest_page(document: Document) -> str:
    parts = [INTRODUCTION]
    tag = ""
    for found, heading, operation in own_operations(document):
        if found != tag:
            tag = found
            parts.append(f"## {tag.capitalize()}")
        parts += [f"### {heading}", *_described(operation)]
    return page("REST API", *parts)


def schema_page(document: Document) -> str:
    """Schemas of requests and responses; problem details are all alike."""
    operations = [operation for _, _, operation in own_operations(document)]
    return schemas.schema_page(operations, document["components"]["schemas"])


def _described(operation: Document) -> Iterator[str]:
    yield prose(operation.get("description", ""))
    yield table(
        ("parameter", "in", "type", "default", "meaning"),
        [_parameter(parameter) for parameter in operation.get("parameters", ())],
    )
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield from _body(media_type, content.get("schema", {}))
    yield "Responses: " + ", ".join(_answers(operation["responses"])) + "."


def _parameter(parameter: Document) -> tuple[str, ...]:
    schema = parameter["schema"]
    default = code(str(schema["default"])) if schema.get("default") is not None else ""
    return (
        code(parameter["name"]),
        parameter["in"],
        kind_of(schema, schemas.PAGE),
        "required" if parameter.get("required") else default,
        parameter.get("description", ""),
    )


def _body(media_type: str, schema: Schema) -> Iterator[str]:
    if (written := fields(schema, schemas.PAGE)) and "$ref" not in schema:
        yield f"Body, as `{media_type}`:"
        yield written
    else:
        yield f"Body, as `{media_type}`: {kind_of(schema, schemas.PAGE)}."


def _answers(responses: dict[str, Document]) -> Iterator[str]:
    for status, response in sorted(responses.items()):
        if not status.startswith("2"):
            continue
        media_type = next(iter(response.get("content", {})), "")
        schema = response["content"][media_type].get("schema", {}) if media_type else {}
        if "$ref" in schema:
            yield f"{code(status)} {link(schema['$ref'].rpartition('/')[2], schemas.PAGE)}"
        elif media_type and media_type != "application/json":
            yield f"{code(status)} as `{media_type}`"
        else:
            yield code(status)
