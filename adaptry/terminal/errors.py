"""What a command can say instead of doing its work: one line and an exit code.

0: done. 1: asked in vain (the server said no, or nobody answered). 2: asked wrongly, or the command
line can't be understood. 130: interrupted.
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
    """The command line itself can't be carried out."""

    exit_code = MISUSED


def told(error: AdaptryError) -> tuple[str, int]:
    """The line and the exit code for what the client raised."""
    line = str(error)
    match error:
        case InvalidServer() | InvalidReference() | InvalidSource():
            return line, MISUSED
        case UploadBroken():
            line = "the server broke the upload off: `adaptry job list` may say why"
        case NoAnswer():
            line = f"{line}. Is `adaptry serve` running there?"
    return line, FAILED
