"""Schema upgrade in a process of its own: one that kills itself (`run`), and the command."""

import itertools
import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.engine import Engine

from adaptry.cli import main
from registry.database.migrate import upgrade


def run(url: str, statement: int) -> None:
    """Before which statement. Returns if there were fewer."""
    numbers = itertools.count(1)

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_: object) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    upgrade(url)


def run_command(url: str) -> None:
    """`adaptry db upgrade`, with its exit code."""
    sys.exit(main(["db", "upgrade", "--database", url]))
