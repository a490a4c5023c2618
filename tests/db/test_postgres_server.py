"""The PostgreSQL of tests: in a folder of any length, though the path of a socket has a limit."""

from pathlib import Path

import pytest

from tests.support.databases.postgres import PostgresServer

pytestmark = pytest.mark.only_postgresql


def test_its_folder_may_have_a_path_of_any_length(postgres: PostgresServer, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 20)
    folder.mkdir(parents=True)
    for each in (folder, *folder.parents):
        if each.is_relative_to(tmp_path.parent.parent):
            each.chmod(0o755)  # it runs as another user
    server = PostgresServer(postgres.programs, parent=folder)
    try:
        server.start()
        assert server.sql("SELECT 1").strip() == "1"
    finally:
        server.remove()
