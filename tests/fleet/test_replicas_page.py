"""The page on several engines is run as it stands, against two."""

import pytest

from tests.fleet.conftest import ServedFleet
from tests.support.docs.page_blocks import blocks_of, compare, run

pytestmark = [pytest.mark.engine]


def test_the_page_on_several_engines_works_as_it_says(fleet: ServedFleet) -> None:
    blocks = blocks_of("operations/replicas.md")
    compare(blocks, run([commands for commands, _ in blocks], fleet.url()))
