"""The pages that need an engine are run as they stand, and print what they say."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.docs.page_blocks import ENGINE_PAGES, blocks_of, compare, run

pytestmark = [pytest.mark.engine]


@pytest.fixture
def tidied(server: Any) -> Iterator[Any]:
    """The shared server; what a page has registered or promoted is removed afterwards."""
    before = versions(server)
    yield server
    for reference in versions(server) - before:
        name, _, number = reference.partition(":")
        path = f"/api/v1/adapters/{name}/versions/{number}/retire"
        assert server.client.post(path, json={"force": True}).status_code == 200
    server.evict_all()


def versions(server: Any) -> set[str]:
    listed = server.client.get("/api/v1/versions", params={"state": "ready", "limit": 500})
    return {str(version["reference"]) for version in listed.json()["items"]}


@pytest.mark.parametrize("page", ENGINE_PAGES)
def test_a_page_prints_its_output(page: str, tidied: Any) -> None:
    blocks = blocks_of(page)
    compare(blocks, run([commands for commands, _ in blocks], tidied.base_url))
