"""The PostgreSQL of tests: in a folder of any length, though the path of a socket has a limit."""

import tempfile
from pathlib import Path

import pytest

from tests.support.databases.postgres import PostgresServer

pytestmark = pytest.mark.only_postgresql


def test_its_folder_may_have_a_path_of_any_length(postgres: PostgresServer) -> None:
    with tempfile.TemporaryDirectory() as above:  # not pytest's, which only this user may enter
        folder = Path(above) / ("long" * 20) / ("longer" * 20)
        folder.mkdir(parents=True)
        Path(above).chmod(0o755)
        server = PostgresServer(postgres.programs, parent=folder)
        try:
            server.start()
            assert server.sql("SELECT 1").strip() == "1"
        finally:
            server.remove()
