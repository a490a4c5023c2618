"""The pages on the registry are run as they are written, and print their output."""

import shutil
from pathlib import Path

import pytest

from adaptry.client import Client
from tests.support.databases.postgres import PostgresServer
from tests.support.docs.page_blocks import REGISTRY_PAGES, ROOT, blocks_of, compare, run
from tests.support.servers.registry_threaded import registry_server


@pytest.mark.parametrize("page", REGISTRY_PAGES)
def test_a_page_prints_its_output(page: str, tmp_path: Path) -> None:
    """A reader has what `make demo` has registered, and sets only what the page names."""
    blocks = blocks_of(page)
    commands = [_here(commands, tmp_path) for commands, _ in blocks]
    with registry_server(tmp_path) as server:
        _register_as_the_demo(server)
        outputs = run(commands, server)
    compare(blocks, outputs)


def _register_as_the_demo(server: str) -> None:
    demo = ROOT / "demo"
    with Client(server) as client:
        for folder in sorted((demo / "adapters").iterdir()):  # the activated one needs an engine
            client.versions.register(folder.name, str(folder))
        second = client.versions.register("upper", str(demo / "adapters-v2" / "upper")).version
        for number in (1, second.number):
            client.aliases.set("upper", "prod", version=number)
        client.aliases.roll_back("upper", "prod")


def _here(commands: str, state: Path) -> str:
    """With this registry's database and store where the page has those of the demo."""
    database, store = (f"$PWD/.adaptry/demo/{name}" for name in ("adaptry.db", "store"))
    return commands.replace(database, f"{state}/registry.db").replace(store, f"{state}/store")


def test_the_page_on_databases_prints_its_output(postgres: PostgresServer) -> None:
    blocks = blocks_of("database.md")
    url = postgres.new_database("page")
    commands = [
        commands.replace("postgresql://adaptry@127.0.0.1/registry", url) for commands, _ in blocks
    ]
    try:
        compare(blocks, run(commands, "http://127.0.0.1:1"))
    finally:
        shutil.rmtree("/tmp/adaptry-docs", ignore_errors=True)
