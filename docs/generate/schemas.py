"""JSON schemas in words: the type of a field, and the page of all schemas."""

import json
from collections.abc import Iterator
from typing import Any

from docs.generate.markdown import code, page, prose, table

Schema = dict[str, Any]
PAGE = "schemas.md"
_PREFIX = "#/components/schemas/"
_FORMATS = {"ipvanynetwork": "network", "date-time": "time"}
_BOUNDS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("maxLength", "≤ {} characters"),
    ("maxItems", "≤ {} items"),
)


def kind_of(schema: Schema, link_page: str = "") -> str:
    """Such as "integer, ≥ 1, ≤ 500 or null". Links lead into `link_page`."""
    if "$ref" in schema:
        return link(schema["$ref"].removeprefix(_PREFIX), link_page)
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    if alternatives := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(kind_of(each, link_page) for each in alternatives)
    return ", ".join((_plain_kind(schema, link_page), *_bounds(schema)))


def _plain_kind(schema: Schema, link_page: str) -> str:
    kind = schema.get("type", "any JSON")
    match kind:
        case "array":
            return f"list of {kind_of(schema.get('items', {}), link_page)}"
        case "object" if isinstance(values := schema.get("additionalProperties"), dict):
            return f"object of {kind_of(values, link_page)}"
        case "string" if "format" in schema:
            return _FORMATS.get(named := str(schema["format"]), named)
    return str(kind)


def _bounds(schema: Schema) -> Iterator[str]:
    for key, words in _BOUNDS:
        if key in schema:
            yield words.format(f"{float(schema[key]):,.0f}")


def link(name: str, link_page: str = "") -> str:
    return f"[{name}]({link_page}#{name.lower()})"


def fields(schema: Schema, link_page: str = "") -> str:
    """A table of an object's fields."""
    required = schema.get("required", ())
    rows = [
        (
            code(name),
            kind_of(field, link_page),
            "required" if name in required else _default(field),
            str(field.get("description", "")),
        )
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "default", "meaning"), rows)


def _default(schema: Schema) -> str:
    return code(json.dumps(schema["default"])) if "default" in schema else ""


def names_in(content: object) -> Iterator[str]:
    """Every schema that is referred to, at any depth of the document's part."""
    if isinstance(content, dict):
        if isinstance(found := content.get("$ref"), str):
            yield found.removeprefix(_PREFIX)
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from names_in(each)


def reachable(start: object, schemas: dict[str, Schema]) -> list[str]:
    """The names of all schemas that `start` needs, sorted."""
    found: set[str] = set()
    waiting = list(names_in(start))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += names_in(schemas[name])
    return sorted(found)


def schema_page(start: object, schemas: dict[str, Schema]) -> str:
    """What the operations of `start` take and give."""
    parts = ["Requests and responses of the [REST API](rest.md). Times are UTC, as in RFC 3339."]
    for name in reachable(start, schemas):
        schema = schemas[name]
        parts += [f"## {name}", prose(schema.get("description", ""))]
        parts.append(fields(schema) or f"{kind_of(schema).capitalize()}.")
    return page("Schemas", *parts)
