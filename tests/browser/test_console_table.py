"""The adapters table over 100,000 adapters: sorted, searched, scrolled, and found again by Back."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer, console_server


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    """Four adapters of the demo among 100,000 without versions."""
    with console_server(tmp_path_factory.mktemp("table")) as server:
        for name in ("upper", "rot13", "vowels", "reverse"):
            server.register(name, name)
        server.add_many()
        for name in ("upper", "rot13", "upper", "vowels", "upper"):
            server.ask(name)
        yield server


def names(page: Page) -> list[str]:
    return page.get_by_role("rowheader").all_inner_texts()


def test_every_column_sorts_and_the_address_says_so(filled: ConsoleServer, visit: Visit) -> None:
    page = visit(filled.url, width=1440).open("#/adapters")
    expect(page.get_by_text("100,000 adapters")).to_be_visible()
    expect(page.get_by_role("rowheader").first).to_have_text("customer-000000")
    page.get_by_role("button", name="Rank").click()
    rows = page.get_by_role("row").filter(has=page.get_by_role("rowheader"))
    expect(rows.first).to_contain_text("upper")
    for text in ("ready", "slot", "67 %", "156 KiB"):
        expect(rows.first).to_contain_text(text)
    page.get_by_role("button", name="Rank").click()
    expect(page.get_by_role("columnheader", name="Rank")).to_have_attribute(
        "aria-sort", "descending"
    )
    expect(rows.nth(3)).to_contain_text("upper")
    page.wait_for_url("**sort=-rank**")
    page.locator("summary", has_text="Columns").click()
    page.get_by_label("Aliases").check()
    page.get_by_label("Tags").uncheck()
    expect(rows.nth(3)).to_contain_text("@default 1")
    page.reload()
    expect(rows.nth(3)).to_contain_text("@default 1")
    expect(page.get_by_role("columnheader", name="Tags")).to_have_count(0)


def test_a_part_of_a_name_is_found(filled: ConsoleServer, visit: Visit) -> None:
    page = visit(filled.url).open("#/adapters")
    page.get_by_label("Search").fill("omer-00042")
    expect(page.get_by_text("10 adapters")).to_be_visible()
    page.get_by_label("Search").fill("")
    page.get_by_label("In memory").select_option("in memory")
    expect(page.get_by_text("3 adapters")).to_be_visible()
    assert sorted(names(page)) == ["rot13", "upper", "vowels"]
    page.get_by_label("Owner").fill("nobody")
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_text("100,000 adapters")).to_be_visible()


@pytest.mark.parametrize("width", [1440, 390])
def test_back_returns_to_the_same_place(filled: ConsoleServer, visit: Visit, width: int) -> None:
    page = visit(filled.url, width=width).open("#/adapters")
    table = page.get_by_role("region", name="Adapters")
    expect(page.get_by_role("rowheader").first).to_have_text("customer-000000")
    table.evaluate("(element) => { element.scrollTop = element.scrollHeight / 2; }")
    wanted = page.get_by_role("link", name="customer-0500", exact=False)
    expect(wanted.first).to_be_visible()
    assert page.get_by_role("row").count() < 100, "only what is in sight exists"
    at = table.evaluate("(element) => element.scrollTop")
    page.wait_for_url("**at=**")
    wanted.nth(5).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("customer-0500")
    page.go_back()
    expect(wanted.first).to_be_visible()
    assert abs(table.evaluate("(element) => element.scrollTop") - at) < 100


def test_another_users_change_is_seen(filled: ConsoleServer, visit: Visit) -> None:
    page = visit(filled.url).open("#/adapters?text=reverse")
    expect(page.locator("#link-state")).to_have_text("live")
    metadata = filled.registry.service.metadata
    filled.run(metadata.update_adapter("reverse", {"owner": "team-new"}, actor="test"))
    expect(page.get_by_role("cell", name="team-new")).to_be_visible()


def test_rows_in_sight_are_read_anew_when_their_order_is_lost(
    filled: ConsoleServer, visit: Visit
) -> None:
    """Those of two answers: the server keeps an order for a while, and for each caller a few."""
    page = visit(filled.url, width=1440).open("#/adapters?sort=-hits")
    region = page.get_by_role("region", name="Adapters")
    expect(page.get_by_role("rowheader").first).not_to_have_text("…")
    forgotten: list[str] = []

    def forget(route: Route) -> None:
        forgotten.append(route.request.url)
        route.continue_(url=re.sub("&as_of=[^&]*", "", route.request.url))

    region.hover()  # from now on, the rows are not read again from time to time
    # what was read with them is read still: for the next time when the one before is done
    page.wait_for_event("request", lambda request: request.url.endswith("/api/v1/cache"))
    page.route(re.compile("/overview.*as_of="), forget, times=2)
    region.evaluate("(element) => { element.scrollTop = 500 * 100 * 36 - 360; }")
    for block in ("customer-0499", "customer-0500"):
        expect(page.get_by_role("rowheader").filter(has_text=block)).not_to_have_count(0)
    expect(page.get_by_role("rowheader").filter(has_text="…")).to_have_count(0)
    assert len(forgotten) == 2


def test_each_column_that_can_be_chosen_sorts(filled: ConsoleServer, visit: Visit) -> None:
    """Those that only the cache knows too: what it knows comes first, in either direction."""
    every = "name,version,aliases,state,memory,asked,hits,rank,size,versions,owner,tags"
    chosen = f"cols={every},description,created&sort=created"
    page = visit(filled.url, width=1440).open(f"#/adapters?{chosen}")
    expect(page.get_by_role("rowheader").first).to_have_text("upper")
    titles = page.get_by_role("columnheader")
    for n in range(titles.count()):
        button = titles.nth(n).get_by_role("button")
        for order in ("ascending", "descending"):
            with page.expect_response(re.compile("/overview")) as answer:
                button.click()
            assert answer.value.status == 200
            expect(titles.nth(n)).to_have_attribute("aria-sort", order)
            expect(page.get_by_role("rowheader").first).not_to_have_text("…")
    first = page.get_by_role("rowheader")
    for title, ascending in (("In memory", "slot"), ("Last asked", "ago"), ("Hit ratio", "0 %")):
        page.get_by_role("button", name=title).click()
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader"))
        expect(row.first).to_contain_text(ascending)
        expect(first.nth(3)).to_have_text("customer-000000")
    page.get_by_role("button", name="Hit ratio").click()
    expect(first.first).to_have_text("upper")
    page.wait_for_url("**sort=-hits**")
    page.reload()
    expect(first.first).to_have_text("upper")
    region = page.get_by_role("region", name="Adapters")
    region.evaluate("(element) => { element.scrollTop = element.scrollHeight; }")
    expect(page.get_by_role("rowheader", name="customer-099995")).to_be_visible()
    region.evaluate("(element) => { element.scrollTop = 0; }")
    page.mouse.move(0, 0)
    filled.ask("reverse")
    expect(page.get_by_role("rowheader", name="reverse")).to_be_visible()
