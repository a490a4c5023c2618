"""Errors of commands: one line and an exit code.

0: success. 1: the request failed or the server was unreachable. 2: usage error. 130: interrupted.
"""

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # the last is what a shell reports for SIGINT


class CommandError(Exception):
    """Ends the command with its exit code."""

    exit_code = FAILED


class UsageError(CommandError):
    """The command line itself is wrong."""

    exit_code = MISUSED
