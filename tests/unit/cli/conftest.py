"""Command lines against servers: a registry in which nothing has happened, and what is none."""

import json
from collections.abc import Callable, Iterator

import pytest

from adaptry.cli import main
from tests.support.servers.registry_threaded import registry_server
from tests.support.servers.web import WebServer, web_server

Run = Callable[..., tuple[int, str, str]]
NO_ITEMS = json.dumps({"items": [], "next_page_token": None}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry without an engine, in which nothing has happened yet."""
    with registry_server(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def other() -> Iterator[WebServer]:
    """A web server that knows nothing of adapters."""
    with web_server() as found:
        yield found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error."""

    def command(line: str, server: str) -> tuple[int, str, str]:
        code = main([*line.split(), "--server", server])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command
