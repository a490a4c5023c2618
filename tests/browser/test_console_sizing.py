"""The sizing page recommends what the server's own lookups call for, and nothing from too few."""

import itertools

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer

COMMAND = "adaptry serve MODEL --max-loras 3 --max-cpu-loras 3"


def test_the_command_has_as_many_places_as_the_lookups_need(
    console: ConsoleServer, visit: Visit
) -> None:
    page = visit(console.url).open("#/cache")
    page.get_by_role("link", name="Sizing").click()
    advice = page.get_by_role("region", name="Recommended", exact=True)
    expect(advice).to_contain_text("Fewer than 200 say too little to recommend a size.")
    in_turn = itertools.cycle(("upper:1", "upper:2", "rot13:1"))
    for reference in itertools.islice(in_turn, 240):
        console.ask(reference)
    page.reload()
    expect(page.get_by_role("region", name="Recommended command")).to_have_text(COMMAND)
    slots = page.get_by_role("region", name="Slots", exact=True)
    wanted = slots.get_by_role("row").filter(has_text="recommended")
    expect(wanted.get_by_role("rowheader")).to_have_text("3")
    expect(slots.get_by_role("row").filter(has_text="now")).to_contain_text("2")
