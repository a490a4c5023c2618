"""Fixtures: the engine that the contract tests share; nothing else uses it."""

from contextlib import ExitStack

import pytest

from tests.conftest import LiveServer, running_live_server


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory, group_end: ExitStack) -> LiveServer:
    """In place of the session's, whose tests run in another process or have ended."""
    return group_end.enter_context(running_live_server(tmp_path_factory.mktemp("contract")))
