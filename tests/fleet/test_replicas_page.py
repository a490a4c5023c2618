"""The commands of the replicas page, run as written against two engines."""

import pytest

from tests.fleet.conftest import ServedFleet
from tests.support.docs.page_blocks import blocks_of, compare, run

pytestmark = [pytest.mark.servers("fleet")]


def test_the_replicas_page_works_as_written(fleet: ServedFleet) -> None:
    blocks = blocks_of("operations/replicas.md")
    compare(blocks, run([commands for commands, _ in blocks], fleet.url()))
