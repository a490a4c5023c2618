"""Requested model: which adapter a request names, read from where vLLM's route reads it.

That is the JSON body's `model`, a form's field of that name, or SageMaker's header.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.types import Scope

from engine.gateway.request_body import RequestBody
from registry.http.headers import find_header
from registry.http.problems import route_path

USER_HEADER = b"x-adaptry-user"
SAGEMAKER_PATH = "/invocations"
SAGEMAKER_HEADER = b"x-amzn-sagemaker-adapter-identifier"
FANOUT = "/v1/fanout"

_MAX_FIELD_BYTES = 4096  # of a form; a longer one names nothing
_FIELDS = frozenset({"model", "user"})


@dataclass(frozen=True, slots=True)
class RequestedModel:
    """`model` None: the base model, or vLLM reports what is wrong. `user`: the end user's id, if
    the request has one. `reads_header`: the route reads SageMaker's header before the body.
    """

    model: str | None
    user: str | None
    reads_header: bool

    def draw(self) -> str:
        """What a traffic split draws the version by: the user, or else chance."""
        return self.user or secrets.token_hex(8)

    def for_route(self, scope: Scope, reference: str) -> tuple[str | None, Scope]:
        """The name under which the route asks for the adapter, and the scope that has it.

        Where the route reads SageMaker's header it is there and in no other place; a name that a
        header can't hold is replaced by the version's `reference`.
        """
        if self.model is None or not self.reads_header:
            return self.model, scope
        name = self.model if self.model.isascii() else reference
        others = [pair for pair in scope["headers"] if pair[0] != SAGEMAKER_HEADER]
        return name, {**scope, "headers": [*others, (SAGEMAKER_HEADER, name.encode())]}


def read_requested_model(scope: Scope, body: RequestBody) -> RequestedModel:
    """Read from where vLLM's route reads it.

    A fan-out has none of its own: each of its models is a request for itself.
    """
    fields = _form_fields(scope, body.content) if body.has_parts else body.members
    model = _text(fields.get("model"))
    reads_header = _is_sagemaker(scope)
    if reads_header:
        model = _utf8(find_header(scope, SAGEMAKER_HEADER)) or model
    elif scope["path"].endswith(FANOUT) and route_path(scope) == FANOUT:
        model = None
    user = find_header(scope, USER_HEADER) or _text(fields.get("user"))
    return RequestedModel(model, user, reads_header)


def _is_sagemaker(scope: Scope) -> bool:
    is_there: bool = scope["path"].endswith(SAGEMAKER_PATH)
    return is_there and route_path(scope) == SAGEMAKER_PATH


def _utf8(header: str | None) -> str | None:
    """Headers are read as Latin-1; clients that know more characters write UTF-8."""
    if header is None or header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class _FormFields:
    """The text fields of a form that we read. Files pass by."""

    def __init__(self) -> None:
        self.found: dict[str, object] = {}
        self._header = self._value = b""
        self._disposition = b""
        self._name: str | None = None

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
        }

    def _on_part_begin(self) -> None:
        self._header = self._value = self._disposition = b""
        self._name = None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        self._name = name if name in _FIELDS else None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is not None and len(self._value) <= _MAX_FIELD_BYTES:
            self._value += data[start : min(end, start + _MAX_FIELD_BYTES + 1)]

    def _on_part_end(self) -> None:
        if self._name is not None and len(self._value) <= _MAX_FIELD_BYTES:
            self.found[self._name] = self._value.decode("utf-8", "replace")


def _form_fields(scope: Scope, body: bytes) -> dict[str, object]:
    _, options = parse_options_header(find_header(scope, b"content-type"))
    fields = _FormFields()
    try:
        parser = MultipartParser(options.get(b"boundary", b""), fields.callbacks())
        parser.write(body)
    except FormParserError:
        return {}
    return fields.found
