"""Failures of commands: an exception as one line, or as JSON, and an exit code."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from adaptry.terminal.errors import FAILED, MISUSED, CommandError
from adaptry.terminal.extras import missing_extra

_PLACE = re.compile(r"\b(?:body|path|query)\.(\w+)(?:\.\d+)?(?=: )")
NEW_KEY = "who may administer makes another with `adaptry key create`"


@dataclass(frozen=True, slots=True)
class Failure:
    """`code` is the server's, empty without one."""

    line: str
    exit_code: int
    code: str = ""

    def show(self, *, as_json: bool) -> None:
        """On standard error, where the output of a command never goes."""
        line = " ".join(self.line.split())
        if as_json:
            line = json.dumps(
                {"error": line, "code": self.code or None, "exit_code": self.exit_code},
                ensure_ascii=False,
            )
        print(line if as_json else f"adaptry: {line}", file=sys.stderr)


def failure_of(error: Exception, arguments: Sequence[str]) -> Failure | None:
    """None: a fault of this program, whose traceback is wanted."""
    if isinstance(error, CommandError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, typer.TyperException):
        return Failure(_line_of(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError):
        advice = missing_extra(error, arguments)
        return None if advice is None else Failure(advice, FAILED)
    return _of_client(error, arguments)


def _line_of(error: typer.TyperException) -> str:
    """Options that are written alike as for adapters, and none of pydantic's words."""
    line = error.format_message()
    if possible := getattr(error, "possibilities", None):
        return f"{error.message}: did you mean {' or '.join(sorted(possible))}?"
    if error.__cause__ is None:
        return _with_help(error, line)
    from pydantic import ValidationError

    from registry.validation import explain

    if not isinstance(error.__cause__, ValidationError):
        return line
    problem = error.__cause__.errors()[0]
    return line.replace(str(problem["msg"]), explain(problem))


def _with_help(error: typer.TyperException, line: str) -> str:
    """Of what a command is and takes, its help knows more; of a value the line says all."""
    context = getattr(error, "ctx", None)
    if context is None or "Invalid value" in line or "Did you mean" in line:
        return line
    return f"{line.rstrip('.')}: `{context.command_path} --help` shows what there is"


def _of_client(error: Exception, arguments: Sequence[str]) -> Failure | None:
    from adaptry import client

    if not isinstance(error, client.AdaptryError):
        return None
    from adaptry.terminal import missing_routes
    from adaptry.terminal.suggestions import suggest

    line = str(error)
    code = str(getattr(error, "code", ""))
    match error:
        case client.InvalidServer() | client.InvalidReference() | client.InvalidSource():
            return Failure(line, MISUSED)
        case client.UploadBroken():
            line = "the server ended the upload early: `adaptry job list` may show why"
        case client.NoAnswer():
            line = f"{line}. Is `adaptry serve` running there?"
        case client.Unauthorized(code="key_required"):
            line = f"this server needs an API key: set ADAPTRY_API_KEY to one [{code}]"
        case client.Unauthorized(code="invalid_key"):
            line = f"the key in ADAPTRY_API_KEY is unknown, expired or revoked: {NEW_KEY} [{code}]"
        case client.UnexpectedAnswer():
            line = missing_routes.explain_server(arguments)
        case client.ApiError() if missing_routes.is_missing_route(error):
            line = missing_routes.explain_missing_route(arguments)
        case client.ApiError():
            line = _PLACE.sub(r"\1", line)
            line = ": ".join(filter(None, (line, suggest(error, arguments))))
    return Failure(line, FAILED, code)
