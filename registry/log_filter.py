"""Logs without secrets: of our own lines, vLLM's and the HTTP server's alike."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from registry.redaction import redacted

_ACCESS = "uvicorn.access"
_PATH = 2  # among the arguments of a line of the access log
_PLAIN = (int, float, type(None))


def hide_secrets_in_logs() -> None:
    """Every record that is made from now on, whoever makes it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_secrets", False):
        return

    def made(*arguments: Any, **more: Any) -> logging.LogRecord:
        record = make(*arguments, **more)
        _clean(record)
        return record

    made.hides_secrets = True  # type: ignore[attr-defined]  # a mark for the next call
    logging.setLogRecordFactory(made)


def _clean(record: logging.LogRecord) -> None:
    if isinstance(record.msg, str):
        record.msg = redacted(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(map(_argument, record.args))
        if record.name == _ACCESS and len(record.args) > _PATH:
            record.args = _without_query(record.args)
    elif isinstance(record.args, Mapping):
        record.args = {name: _argument(value) for name, value in record.args.items()}
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if (clean := redacted(text)) != text:
            record.exc_text = clean
            record.exc_info = None


def _argument(value: object) -> object:
    """As it is, unless its text has a secret."""
    if isinstance(value, _PLAIN):
        return value
    text = str(value)
    clean = redacted(text)
    return value if clean == text else clean


def _without_query(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """People put keys there; and what was searched for is nobody's business."""
    path = str(arguments[_PATH])
    shown = path.partition("?")[0] + ("?…" if "?" in path else "")
    return (*arguments[:_PATH], shown, *arguments[_PATH + 1 :])
