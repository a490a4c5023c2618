"""Schema upgrade that kills itself: `python -m tests.support.servers.killed_upgrade URL N`.

N: before which statement. Exits 0 if there were fewer.
"""

import itertools
import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.engine import Engine

from registry.database.migrate import upgrade


def main(url: str, statement: int) -> None:
    numbers = itertools.count(1)

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_: object) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    upgrade(url)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
