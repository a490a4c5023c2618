"""The pages on the registry are run as they are written, and print their output."""

import shutil
from pathlib import Path

import pytest

from tests.support.databases.postgres import PostgresServer
from tests.support.docs.page_blocks import REGISTRY_PAGES, blocks_of, compare, run
from tests.support.servers.registry_threaded import registry_server


@pytest.mark.parametrize("page", REGISTRY_PAGES)
def test_a_page_prints_its_output(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of(page)
    monkeypatch.setenv("ADAPTRY_DATABASE_URL", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("ADAPTRY_STORE", str(tmp_path / "store"))
    with registry_server(tmp_path) as server:
        outputs = run([commands for commands, _ in blocks], server)
    compare(blocks, outputs)


def test_the_page_on_databases_prints_its_output(postgres: PostgresServer) -> None:
    blocks = blocks_of("database.md")
    postgres.sql("CREATE DATABASE page")
    commands = [
        commands.replace("postgresql://adaptry@127.0.0.1/registry", postgres.url("page"))
        for commands, _ in blocks
    ]
    try:
        compare(blocks, run(commands, "http://127.0.0.1:1"))
    finally:
        shutil.rmtree("/tmp/adaptry-docs", ignore_errors=True)
