"""The history page: what was in the slots at a time, who evicted whom, and who waited."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from engine.settings import EngineSettings
from registry.auth.scopes import Scope
from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer, console_server
from tests.browser.helpers import tier
from tests.browser.recorded_night import HOURS_AGO, Night, record, record_quiet
from tests.browser.test_console_accessible_pages import AXE, violations

LOCAL = "at => new Date(at).toLocaleString('sv').replace(' ', 'T')"


@pytest.fixture(scope="module")
def night() -> Night:
    return Night()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, night: Night) -> Iterator[ConsoleServer]:
    with console_server(tmp_path_factory.mktemp("night")) as running_server:
        running_server.run(record(running_server, night))
        yield running_server


def time_field(page: Page) -> Locator:
    return page.get_by_label(re.compile("^Time \\("))


def slider(page: Page) -> Locator:
    return page.get_by_role("slider", name="Time")


def slots(page: Page) -> list[str]:
    return [text.split("\n")[0] for text in tier(page, "GPU slots").locator("li").all_inner_texts()]


def go(page: Page, night: Night, seconds: int) -> None:
    """As a person writes the time into its field, in the zone of the browser."""
    time_field(page).fill(page.evaluate(LOCAL, night.at(seconds)))
    time_field(page).blur()


@pytest.mark.parametrize("width", [1440, 390])
def test_what_was_in_the_slots_and_who_evicted_whom(
    server: ConsoleServer, visit: Visit, night: Night, width: int
) -> None:
    page = visit(server.url, width=width).open("#/history")
    go(page, night, 15)
    expect(tier(page, "GPU slots").get_by_text("upper:1")).to_be_visible()
    assert slots(page) == ["upper:1", "vowels:1"]
    waited = page.get_by_role("row", name=re.compile("reverse:1"))
    expect(waited).to_contain_text("15 s")
    evicted = page.get_by_label("Decisions, oldest first").locator('[data-kind="evicted"]')
    expect(evicted.first).to_contain_text("vowels:1 evicted from GPU slot 1 for reverse:1")
    expect(tier(page, "GPU slots").locator(".next")).to_contain_text("for reverse:1")
    slider(page).focus()
    slider(page).press("ArrowRight")
    slider(page).press("ArrowRight")
    expect(tier(page, "GPU slots").get_by_text("reverse:1", exact=True)).to_be_visible()
    assert slots(page) == ["upper:1", "reverse:1"]
    expect(tier(page, "GPU slots")).to_contain_text("pinned gpu")
    at = night.at(35)
    expect(page).to_have_url(re.compile(re.escape(f"at={at.replace(':', '%3A')}")))
    page.reload()
    expect(tier(page, "GPU slots").get_by_text("reverse:1", exact=True)).to_be_visible()
    tiers = page.get_by_role("region", name="Both tiers").bounding_box()
    decisions = page.get_by_role("region", name="Decisions").bounding_box()
    assert tiers is not None
    assert decisions is not None
    assert decisions["y"] - tiers["y"] - tiers["height"] >= 8, "they don't touch"


def test_thumb_and_cursor_are_at_one_time(
    server: ConsoleServer, visit: Visit, night: Night
) -> None:
    """At both ends, where they would differ most."""
    page = visit(server.url).open(f"#/history?at={night.at(30)}")
    plot = page.get_by_role("img", name=re.compile("lookups")).bounding_box()
    thumb = slider(page).bounding_box()
    assert plot is not None
    assert thumb is not None
    assert thumb["x"] == pytest.approx(plot["x"] - 8, abs=0.5)
    assert thumb["width"] == pytest.approx(plot["width"] + 16, abs=0.5)


def test_steps_of_the_keyboard(server: ConsoleServer, visit: Visit, night: Night) -> None:
    page = visit(server.url).open(f"#/history?at={night.at(30)}")
    start = int(slider(page).input_value())
    slider(page).focus()
    moved = 0
    for key, step in (
        ("ArrowLeft", -10),
        ("Shift+ArrowRight", 600),
        ("ArrowUp", 10),
        ("PageUp", 3600),
        ("PageDown", -3600),
        ("Shift+ArrowLeft", -600),
    ):
        slider(page).press(key)
        moved += step * 1000
        expect(slider(page)).to_have_value(str(start + moved))
    page.locator("body").click(position={"x": 1, "y": 1})
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Cache")
    page.keyboard.press("g")
    page.keyboard.press("h")
    expect(page.get_by_role("heading", level=1)).to_have_text("History")


def test_what_is_not_known_is_not_guessed(
    server: ConsoleServer, visit: Visit, night: Night
) -> None:
    page = visit(server.url).open(f"#/history?at={night.at(3600)}")
    gap = page.get_by_role("region", name="Not known")
    expect(gap).to_contain_text("Nothing is known of this time")
    expect(tier(page, "GPU slots")).to_have_count(0)
    gap.get_by_role("button", name=re.compile("Last known")).click()
    expect(tier(page, "GPU slots").get_by_text("reverse:1", exact=True)).to_be_visible()
    assert page.get_by_role("img", name=re.compile("times are not known")).count() == 1


def test_one_adapter_is_followed(server: ConsoleServer, visit: Visit, night: Night) -> None:
    page = visit(server.url).open(f"#/history?at={night.at(35)}&adapter=upper")
    lines = page.get_by_label("Decisions, oldest first").locator(".decision")
    expect(lines.first).to_be_visible()
    assert all("upper" in text for text in lines.all_inner_texts())
    page.get_by_role("button", name="Show all").click()
    expect(lines.filter(has_text="vowels:1").first).to_be_visible()
    at = lines.filter(has_text="evicted").first.get_by_role("button")
    at.click()
    expect(page).to_have_url(re.compile(re.escape(night.at(25).replace(":", "%3A"))))


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make console")
@pytest.mark.parametrize("width", [1440, 390])
def test_the_replicas_of_a_fleet_are_side_by_side(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit, night: Night, width: int
) -> None:
    with console_server(tmp_path_factory.mktemp("fleet")) as server:
        server.run(record(server, night, "fleet~one"))
        server.run(record_quiet(server, night, "fleet~two"))
        page = visit(server.url, width=width).open(f"#/history?server=fleet~two&at={night.at(15)}")
        held = {"one": ["upper:1", "vowels:1"], "two": ["free", "reverse:1"]}
        for name, references in held.items():
            replica = page.get_by_role("region", name=f"fleet~{name}", exact=True)
            cells = replica.get_by_role("list", name="GPU slots").locator("li")
            expect(cells.filter(has_text=references[1])).to_have_count(1)
            assert sorted(text.split("\n")[0] for text in cells.all_inner_texts()) == references
        plots = page.get_by_role("img", name=re.compile("^fleet~(one|two): "))
        expect(plots).to_have_count(2)
        assert slider(page).count() == 1, "they are moved in together"
        one = page.get_by_role("region", name="Decisions of fleet~one")
        expect(one.locator('[data-kind="evicted"]').first).to_contain_text("for reverse:1")
        boxes = [
            page.get_by_role("region", name=f"fleet~{n}", exact=True).bounding_box() for n in held
        ]
        left, right = boxes
        assert left is not None
        assert right is not None
        beside = left["y"] == right["y"] and left["x"] < right["x"]
        assert beside == (width == 1440)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []


def test_of_many_replicas_a_few_are_asked_for(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit, night: Night
) -> None:
    with console_server(tmp_path_factory.mktemp("many")) as server:
        for name in "abcdefgh":
            server.run(record_quiet(server, night, f"fleet~{name}"))
        page = visit(server.url).open(f"#/history?server=fleet~h&at={night.at(15)}")
        plots = page.get_by_role("img", name=re.compile("^fleet~[a-h]: "))
        expect(page.get_by_text("6 of 8 replicas are shown")).to_be_visible()
        expect(plots).to_have_count(6)
        expect(page.get_by_role("region", name="fleet~h", exact=True)).to_be_visible()
        page.get_by_role("button", name="Show all").click()
        expect(plots).to_have_count(8)


def test_replicas_that_keep_less_than_a_day_are_drawn_too(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit, night: Night
) -> None:
    settings = EngineSettings(history_hours=HOURS_AGO + 1)
    with console_server(tmp_path_factory.mktemp("short"), settings=settings) as server:
        server.run(record(server, night, "fleet~one"))
        server.run(record_quiet(server, night, "fleet~two"))
        visitor = visit(server.url)
        visitor.expects_a_refusal()  # of a day that is named
        page = visitor.open(f"#/history?server=fleet~two&at={night.at(15)}")
        expect(page.get_by_role("img", name=re.compile("^fleet~(one|two): "))).to_have_count(2)


def test_now_is_the_cache_as_it_is(server: ConsoleServer, visit: Visit) -> None:
    page = visit(server.url).open("#/history")
    expect(tier(page, "GPU slots")).to_be_visible()
    expect(page.get_by_text("No decision in the minute before or after it")).to_be_visible()
    assert slots(page) == ["free", "free"]


def test_now_moves_a_shorter_range_too(server: ConsoleServer, visit: Visit, night: Night) -> None:
    page = visit(server.url).open(f"#/history?at={night.at(30)}")
    page.get_by_label("Range").select_option(label="the hour around it")
    end_of_range = str(int(night.now + 30 + 1800) * 1000)
    expect(slider(page)).to_have_attribute("max", end_of_range)
    page.get_by_role("button", name="Now", exact=True).click()
    expect(slider(page)).not_to_have_attribute("max", end_of_range)
    assert int(slider(page).get_attribute("max") or 0) > (night.now + 5 * 3600) * 1000


def test_a_time_that_is_being_written_is_left_alone(
    server: ConsoleServer, visit: Visit, night: Night
) -> None:
    page = visit(server.url).open(f"#/history?at={night.at(30)}")
    was = slider(page).input_value()
    written = page.evaluate(LOCAL, night.at(-30 * 86400))  # `3` of a day that ends as the 30th
    time_field(page).fill(written)
    expect(time_field(page)).to_have_value(re.compile(written[:16]))
    expect(slider(page)).to_have_value(was)
    time_field(page).blur()
    expect(slider(page)).not_to_have_value(was)
    expect(time_field(page)).not_to_have_value(re.compile(written[:16]))


def test_a_server_that_keeps_none_says_how_to(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit
) -> None:
    off = EngineSettings(history_hours=0)
    with console_server(tmp_path_factory.mktemp("off"), settings=off) as server:
        visitor = visit(server.url)
        visitor.expects_a_refusal()
        page = visitor.open("#/history")
        expect(page.get_by_text("ADAPTRY_HISTORY_HOURS is 0")).to_be_visible()
        expect(page.get_by_text("ADAPTRY_HISTORY_HOURS=24")).to_be_visible()


def test_a_link_to_a_server_that_is_gone_offers_those_that_have_a_history(
    server: ConsoleServer, visit: Visit, night: Night
) -> None:
    visitor = visit(server.url)
    visitor.expects_a_refusal()
    page = visitor.open(f"#/history?server=long-gone&at={night.at(15)}")
    expect(page.get_by_role("main").get_by_text("long-gone")).to_be_visible()
    page.get_by_role("button", name=re.compile("^History of ")).first.click()
    expect(tier(page, "GPU slots").get_by_text("upper:1")).to_be_visible()


def test_grafana_is_linked_at_the_same_time(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit, night: Night
) -> None:
    settings = EngineSettings(grafana_url="https://grafana.example/")
    with console_server(tmp_path_factory.mktemp("grafana"), settings=settings) as server:
        page = visit(server.url).open(f"#/history?at={night.at(0)}")
        link = page.get_by_role("link", name="Grafana at this time")
        middle = int(night.now * 1000)
        address = "https://grafana.example/d/adaptry-cache"
        expect(link).to_have_attribute(
            "href", f"{address}?from={middle - 900_000}&to={middle + 900_000}"
        )
        expect(page.get_by_text("Nothing is known of this time")).to_be_visible()
        page.close()


def test_a_key_that_may_not_see_it_is_told_so(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit
) -> None:
    with console_server(tmp_path_factory.mktemp("keys"), require_keys=True) as server:
        key = server.key("reader", Scope.INFER)
        visitor = visit(server.url)
        visitor.use_key(key)
        page = visitor.open("#/history")
        expect(page.get_by_text("doesn't have the scope that this page needs")).to_be_visible()
        nav = page.get_by_role("navigation", name="Console")
        expect(nav.get_by_role("link", name="History")).to_have_count(0)
