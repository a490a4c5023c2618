"""docs/cache.md against the real engine: its examples print what they say."""

from typing import Any

import pytest

from tests.docs.test_registry_pages import blocks_of, compare, run

pytestmark = [pytest.mark.engine]


def test_the_page_on_the_cache_prints_what_it_says(server: Any) -> None:
    blocks = blocks_of("cache.md")
    assert len([output for _, output in blocks if output]) == 3
    compare(blocks, run([commands for commands, _ in blocks], server.base_url))
