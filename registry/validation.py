"""Validation in plain words: what is wrong with a value, where pydantic speaks of its own types."""

from collections.abc import Callable, Mapping
from typing import Any

Problem = Mapping[str, Any]

_EXACT = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "json_invalid": "is no JSON",
    "json_type": "must be JSON",
    "none_required": "must be null",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "bytes_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "iterable_type": "must be a list",
    "dict_type": "must be an object with keys and values",
    "model_type": "must be an object with keys and values",
    "model_attributes_type": "must be an object with keys and values",
    "dataclass_type": "must be an object with keys and values",
    "mapping_type": "must be an object with keys and values",
    "path_type": "must be a path",
    "timezone_aware": "must have a time zone, such as 2026-11-17T14:05Z",
}
_WITH_CONTEXT: Mapping[str, Callable[[Any], str]] = {
    "literal_error": lambda given: f"must be {given['expected']}",
    "enum": lambda given: f"must be {given['expected']}",
    "greater_than": lambda given: f"must be more than {given['gt']}",
    "greater_than_equal": lambda given: f"must be at least {given['ge']}",
    "less_than": lambda given: f"must be less than {given['lt']}",
    "less_than_equal": lambda given: f"must be at most {given['le']}",
    "string_too_short": lambda given: f"must have at least {given['min_length']} characters",
    "string_too_long": lambda given: f"must have at most {given['max_length']} characters",
    "string_pattern_mismatch": lambda given: f"must match {given['pattern']}",
    "too_short": lambda given: f"must have at least {given['min_length']} entries",
    "too_long": lambda given: f"must have at most {given['max_length']} entries",
}
_TIMES = ("date", "time")


def explain(problem: Problem) -> str:
    """The message of one of pydantic's errors, without the field's name."""
    kind, context = str(problem["type"]), problem.get("ctx") or {}
    if kind in _EXACT:
        return _EXACT[kind]
    if kind in _WITH_CONTEXT:
        return _WITH_CONTEXT[kind](context)
    if kind in {"value_error", "assertion_error"}:  # words of ours, after a prefix of pydantic's
        return str(context.get("error") or problem["msg"]).removeprefix("Value error, ")
    if kind.startswith(_TIMES):
        return "must be a time, such as 2026-11-17T14:05Z"
    return str(problem["msg"])
