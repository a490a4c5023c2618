"""Errors of commands: one line and an exit code.

0: success. 1: the request failed or the server was unreachable. 2: usage error. 130: interrupted.
"""

from adaptry.client import (
    AdaptryError,
    InvalidReference,
    InvalidServer,
    InvalidSource,
    NoAnswer,
    UploadBroken,
)

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # the last is what a shell reports for SIGINT


class CommandError(Exception):
    """Ends the command with its exit code."""

    exit_code = FAILED


class UsageError(CommandError):
    """The command line itself is wrong."""

    exit_code = MISUSED


def describe(error: AdaptryError) -> tuple[str, int]:
    """The message and the exit code of an error of the client."""
    line = str(error)
    match error:
        case InvalidServer() | InvalidReference() | InvalidSource():
            return line, MISUSED
        case UploadBroken():
            line = "the server ended the upload early: `adaptry job list` may show why"
        case NoAnswer():
            line = f"{line}. Is `adaptry serve` running there?"
    return line, FAILED
