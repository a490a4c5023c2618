"""Log privacy: what vLLM's front end logs of an exception has its type and place, not its text.

The text may quote a prompt, a template's variables or a grammar.
"""

import logging
import sys
from typing import Any

from registry.http.unexpected_errors import describe_exception

_LOGGERS = (
    "vllm.entrypoints",
    "vllm.parser",
    "vllm.reasoning",
    "vllm.renderers",
    "vllm.tool_parsers",
    "vllm.v1.structured_output",
)


def hide_exception_texts() -> None:
    """For every record that one of these loggers creates after this call."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_exception_texts", False):
        return

    def make_record(name: str, *arguments: Any, **more: Any) -> logging.LogRecord:
        record = make(name, *arguments, **more)
        if name.startswith(_LOGGERS):
            _hide_text(record)
        return record

    make_record.hides_exception_texts = True  # type: ignore[attr-defined]  # read by the next call
    logging.setLogRecordFactory(make_record)


def _hide_text(record: logging.LogRecord) -> None:
    if isinstance(record.args, tuple):
        record.args = tuple(map(_without_text, record.args))
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    raised = error or sys.exception()
    if raised is not None and str(raised) and str(raised) in str(record.msg):
        record.msg = type(raised).__name__  # an f-string of the caller
    if error is not None:
        record.msg, record.args = f"{record.getMessage()}: {describe_exception(error)}", ()
        record.exc_info = record.exc_text = None


def _without_text(argument: object) -> object:
    return type(argument).__name__ if isinstance(argument, BaseException) else argument
