"""Usage: the tokens of a request, as a stock server reports them at the end of its answer.

A stream of completions has them only if that is asked for: it is asked for, and the event that has
them is not sent on to a client that did not ask. An answer that was cut short has none: its prompt
is estimated by its length, and its tokens by the events that came.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.gateway.token_estimate import estimated_prompt
from engine.types import WorkDone
from fleet.stock.routes import TOKENIZING

_STREAMED_ON_REQUEST = frozenset({"/v1/completions", "/v1/chat/completions"})
_SIGN = b'"usage"'
_EVENT = b"data: "
_PROMPT = ("prompt_tokens", "input_tokens")
_GENERATED = ("completion_tokens", "output_tokens")


class _Answer(msgspec.Struct):
    usage: Any = None
    choices: Any = None
    response: Any = None  # of the last event of `/v1/responses`


_ANSWER = msgspec.json.Decoder(_Answer)


def usage_options(path: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Members of the request to be sent in place of the client's."""
    options = members.get("stream_options") or {}
    if path not in _STREAMED_ON_REQUEST or members.get("stream") is not True:
        return {}
    if not isinstance(options, dict) or options.get("include_usage"):
        return {}
    return {"stream_options": {**options, "include_usage": True}}


class AnswerUsage:
    """Reads the answer of one request as it passes. `hides`: its client did not ask for it."""

    def __init__(self, path: str, body_bytes: int, *, hides: bool) -> None:
        self._path = path
        self._body_bytes = body_bytes
        self._hides = hides
        self._hidden_end = False
        self._prompt: int | None = None
        self._generated = 0
        self._events = 0
        self._is_good = self._is_complete = False

    def begin(self, status: int) -> None:
        self._is_good = status < 300

    def read(self, lines: bytes) -> bytes:
        """What of these whole lines is for the client."""
        if self._hidden_end:  # the blank line that ends the hidden event
            self._hidden_end = False
            lines = lines.removeprefix(b"\r").removeprefix(b"\n")
        self._events += lines.count(_EVENT)
        if _SIGN not in lines:
            return lines
        kept = []
        for line in lines.splitlines(keepends=True):
            if self._hidden_end and not line.strip():
                self._hidden_end = False
            elif _SIGN in line and self._is_only_usage(line):
                self._events -= 1
                self._hidden_end = True
            else:
                kept.append(line)
        return b"".join(kept)

    def end(self) -> None:
        """The answer is complete."""
        self._is_complete = True

    def work(self) -> WorkDone | None:
        """None if nothing was generated."""
        if not self._is_good or self._path in TOKENIZING:
            return None
        if self._prompt is not None and self._is_complete:
            return WorkDone(self._prompt, self._generated, None)
        return WorkDone(self._estimated_prompt(), max(self._generated, self._events), None)

    def _estimated_prompt(self) -> int:
        return estimated_prompt(self._body_bytes) if self._prompt is None else self._prompt

    def _is_only_usage(self, line: bytes) -> bool:
        """Whether to hide it; what it reports is added first."""
        try:
            answer = _ANSWER.decode(line.removeprefix(_EVENT))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return False  # `usage` in a text that is spread over lines
        usage = answer.usage
        if usage is None and isinstance(answer.response, dict):
            usage = answer.response.get("usage")
        if not isinstance(usage, dict):
            return False
        self._prompt = _first(usage, _PROMPT, self._prompt)
        self._generated = _first(usage, _GENERATED, self._generated) or 0
        return self._hides and answer.choices == [] and line.startswith(_EVENT)


def _first(usage: Mapping[str, Any], names: tuple[str, ...], otherwise: int | None) -> int | None:
    for name in names:
        if isinstance(usage.get(name), int):
            return int(usage[name])
    return otherwise


def uncounted_usage() -> AnswerUsage:
    """Of an answer that is only passed on."""
    return AnswerUsage("", 0, hides=False)
