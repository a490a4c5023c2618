"""What happens on the server is seen in the console as it happens; adapters are found and tried."""

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from demo.tasks import TASKS, prompt_for
from tests.browser.conftest import Visit
from tests.browser.helpers import ask, is_live, tier, with_two_versions

pytestmark = [pytest.mark.engine]


def test_a_request_is_seen_as_it_happens(server: Any, visit: Visit) -> None:
    page = visit(server.base_url).open()
    is_live(page)
    page.evaluate("window.sameDocument = true")
    ask(server, "rot13")
    expect(tier(page, "GPU slots").get_by_role("button", name="rot13:1")).to_be_visible()
    newest = page.get_by_role("list", name="Decisions, newest first").get_by_role("listitem")
    expect(newest.first).to_contain_text("rot13:1")
    expect(newest.filter(has_text="miss").first).to_be_visible()
    ask(server, "rot13")
    expect(newest.first).to_contain_text("GPU hit")
    assert page.evaluate("window.sameDocument")


def test_a_change_is_seen_in_the_events_as_it_happens(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-followed")
    page = visit(server.base_url).open("#/events?adapter=console-followed&kind=alias.moved")
    is_live(page)
    items = page.get_by_role("list", name="Events").get_by_role("listitem")
    expect(items).to_have_count(1)
    path = "/api/v1/adapters/console-followed/aliases/default"
    server.client.put(path, json={"version": 2, "reason": "seen live"})
    expect(items).to_have_count(2)
    expect(items.first).to_contain_text("@default: 1 → 2")
    expect(items.first).to_contain_text("by api")
    expect(items.first).to_contain_text("seen live")


def test_an_adapters_page_follows_its_changes(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-watched")
    page = visit(server.base_url).open("#/adapters/console-watched")
    is_live(page)
    server.client.put("/api/v1/adapters/console-watched/aliases/beta", json={"version": 2})
    expect(page.get_by_role("rowheader", name="@beta")).to_be_visible()


def test_older_events_are_read_page_by_page(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-busy")
    path = "/api/v1/adapters/console-busy/aliases/prod"
    for n in range(52):
        server.client.put(path, json={"version": 1 + n % 2, "warm": False})
    page = visit(server.base_url).open("#/events?adapter=console-busy")
    items = page.get_by_role("list", name="Events").get_by_role("listitem")
    expect(items).to_have_count(50)
    page.get_by_role("button", name="Show older").click()
    expect(page.get_by_text("No more events.")).to_be_visible()
    listed = server.client.get("/api/v1/events?adapter=console-busy&limit=500").json()["items"]
    ids = items.evaluate_all("(all) => all.map((each) => Number(each.dataset.event))")
    assert ids == [event["id"] for event in reversed(listed)]


def test_a_search_finds_by_words_tags_and_state(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-found")
    describe = {"description": "answers tickets", "tags": ["crm"], "owner": "team-a"}
    server.client.patch("/api/v1/adapters/console-found", json=describe)
    page = visit(server.base_url).open("#/adapters")
    page.get_by_label("Search").fill("tick")
    page.get_by_label("Tag").fill("crm")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("console-found")
    expect(page).to_have_url(re.compile("text=tick&tag=crm"))
    page.reload()
    expect(rows).to_have_count(2)
    page.get_by_label("Owner").fill("nobody")
    expect(page.get_by_text("No adapters match.")).to_be_visible()
    page.get_by_role("link", name="Search versions").click()
    page.get_by_label("Words").fill("console-found")
    expect(rows).to_have_count(3)
    rows.filter(has_text="console-found:2").get_by_role("link").click()
    expect(page.get_by_text("Inspection")).to_be_visible()
    expect(page.get_by_text("compared with the base model's")).to_be_visible()


def test_one_prompt_is_answered_side_by_side(server: Any, visit: Visit) -> None:
    ask(server, "upper")
    page = visit(server.base_url).open("#/try?max_tokens=16")
    page.get_by_label("Prompt").fill(prompt_for("hello"))
    page.get_by_label("Reference A").fill("upper")
    page.get_by_label("Reference B").fill("reverse:1")
    page.get_by_label("Prompt").press("Control+Enter")
    for letter, name, outcome in (("A", "upper", "gpu_hit"), ("B", "reverse", "miss")):
        side = page.get_by_role("region", name=f"Side {letter}")
        expect(side.get_by_label("Answer")).to_have_text(TASKS[name].answer("hello"))
        expect(side).to_contain_text(f"{name}:1")
        expect(side).to_contain_text(outcome)
        expect(side).to_contain_text("First token")
    expect(page).to_have_url(re.compile("a=upper"))
    page.get_by_label("Route").select_option("chat")
    page.get_by_label("Prompt").fill("hello")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("Answer of B")).to_have_text("olleh")


def test_one_side_fails_alone(server: Any, visit: Visit) -> None:
    visitor = visit(server.base_url)
    page = visitor.open("#/try?a=upper&b=nobody&prompt=hello%3D&max_tokens=16")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label("Answer of A")).to_have_text("HELLO")
    side = page.get_by_role("region", name="Side B")
    expect(side.get_by_role("alert")).to_contain_text("model_not_found")
    visitor.expects_a_refusal()
