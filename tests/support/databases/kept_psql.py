"""psql with one connection for many statements: to start both takes 30 ms of CPU."""

from types import TracebackType
from typing import Self

from tests.support.databases.postgres import PostgresServer

DONE = "done"


class KeptPsql:
    """For statements that return no rows."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server, self._database = server, database
        self._process = server.psql(database)

    def run(self, statement: str) -> None:
        if self._answer(statement) == DONE:
            return
        self._end()  # a test has killed the server, and has started it again
        self._process = self._server.psql(self._database)
        answer = self._answer(statement)
        assert answer == DONE, answer

    def _answer(self, statement: str) -> str:
        """The first line, such as an error's; nothing if there is no connection."""
        asked, answer = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answer is not None
        try:
            asked.write(f"{statement};\n\\echo {DONE}\n")
            asked.flush()
        except BrokenPipeError:
            return ""
        return answer.readline().strip()

    def _end(self) -> None:
        self._process.kill()  # forks of this process hold its input open
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
