"""Body validation: vLLM's models stop at the first error of a list, and soon in a large object.

pydantic goes on, and tries each of a union's members for each item: a body of 168 KB has 732,000
errors, and the event loop stands for 11 s. What is valid is not affected.

Token ids that this server has validated itself are not validated again: pydantic tries four types
for a prompt, which takes 1.3 ms for 32k ids.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from fastapi.routing import APIRoute
from pydantic_core import SchemaValidator, core_schema

_SEQUENCES = frozenset({"list", "tuple", "set", "frozenset"})
_BOUNDS = ("min_length", "max_length")
_PIECE = 64  # members of an object that are validated together
_NOT_SCHEMAS = frozenset({"metadata", "serialization", "config", "cls", "default"})


class ValidTokenIds(list[int]):
    """A prompt: integers that aren't negative."""


def stop_at_first_error(routes: Iterable[Any]) -> None:
    """For the body of each route that has one."""
    for route in routes:
        field = getattr(route, "body_field", None) if isinstance(route, APIRoute) else None
        if field is not None:
            adapter = field._type_adapter
            adapter.validator = first_error_validator(adapter.core_schema)


def first_error_validator(schema: Any) -> SchemaValidator:
    """Without the validators that pydantic has built for the models within."""
    return SchemaValidator(_fail_fast(schema, {}), _use_prebuilt=False)


def _fail_fast(schema: Any, seen: dict[int, Any]) -> Any:
    """A copy whose lists fail with their first invalid item."""
    if isinstance(schema, list | tuple):
        return type(schema)(_fail_fast(each, seen) for each in schema)
    if not isinstance(schema, dict):
        return schema
    if id(schema) not in seen:
        copy = seen[id(schema)] = dict(schema)
        kind = schema.get("type")
        is_schema = isinstance(kind, str)  # or it maps fields, one of which may be called `type`
        for name, part in schema.items():
            if not (is_schema and name in _NOT_SCHEMAS):
                copy[name] = _fail_fast(part, seen)
        if is_schema and kind in _SEQUENCES:
            copy["fail_fast"] = True
        if kind == "model-fields" and "prompt" in schema["fields"]:
            copy["fields"]["prompt"] = _with_valid_ids(copy["fields"]["prompt"])
        if is_schema and kind == "dict" and not any(bound in schema for bound in _BOUNDS):
            reference = copy.pop("ref", None)
            whole = core_schema.no_info_wrap_validator_function(_validate_in_pieces, copy)
            seen[id(schema)] = {**whole, "ref": reference} if reference else dict(whole)
    return seen[id(schema)]


def _with_valid_ids(field: dict[str, Any]) -> dict[str, Any]:
    """Within its default, which pydantic looks for outside of all else."""
    schema = field["schema"]
    if schema["type"] == "default":
        return {**field, "schema": _with_valid_ids(schema)}
    return {
        **field,
        "schema": core_schema.no_info_wrap_validator_function(_take_valid_ids, schema),
    }


def _take_valid_ids(value: Any, validate: Callable[[Any], Any]) -> Any:
    return [*value] if type(value) is ValidTokenIds else validate(value)


def _validate_in_pieces(value: Any, validate: Callable[[Any], Any]) -> Any:
    """A large object of any keys: no piece follows the first one that has an error."""
    if not isinstance(value, dict) or len(value) <= _PIECE:
        return validate(value)
    members, valid = iter(value.items()), {}
    while piece := dict(islice(members, _PIECE)):
        valid.update(validate(piece))
    return valid
