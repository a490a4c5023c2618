"""What an operator does beside the cache, done in the console and read back from the server."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from registry.auth.scopes import Scope
from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer, console_server

LEAVE_AND_CHOOSE = """(select) => {
  location.hash = "#/keys";
  select.value = "failed";
  select.dispatchEvent(new Event("change", { bubbles: true }));
}"""


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    with console_server(tmp_path_factory.mktemp("keyed"), require_keys=True) as server:
        yield server


def read(server: ConsoleServer, path: str) -> dict[str, object]:
    content: dict[str, object] = httpx.get(
        f"{server.url}/api/v1/{path}", trust_env=False, timeout=60
    ).json()
    return content


def answer(page: Page, title: str, verb: str, **fields: str) -> None:
    """Fills in a dialog and sends it."""
    dialog = page.get_by_role("dialog", name=title)
    for label, value in fields.items():
        dialog.get_by_label(label.replace("_", " ")).fill(value)
    dialog.get_by_role("button", name=verb, exact=True).click()
    expect(dialog).to_have_count(0)


def test_a_version_goes_through_its_states(console: ConsoleServer, visit: Visit) -> None:
    console.register("staged", "upper")
    console.register("staged", "reverse")
    page = visit(console.url).open("#/adapters/staged?version=2")
    state = page.get_by_role("row", name=re.compile("staged:2 ")).locator(".state")
    for step, becomes, fields in (
        ("Deprecate", "deprecated", {}),
        ("Restore", "ready", {}),
        ("Quarantine", "quarantined", {"Reason": "it rambles"}),
        ("Restore", "ready", {}),
        ("Retire", "retired", {}),
        ("Purge", "purged", {"Type_staged:2_to_confirm": "staged:2"}),
    ):
        page.get_by_role("button", name=f"{step} …", exact=True).click()
        answer(page, f"{step} staged:2", step, **fields)
        expect(state).to_have_text(becomes)
    assert read(console, "adapters/staged/versions/2")["state"] == "purged"
    expect(page.get_by_role("button", name="Promote …")).to_have_count(0)


def test_an_adapter_is_described(console: ConsoleServer, visit: Visit) -> None:
    console.register("described", "upper")
    page = visit(console.url).open("#/adapters/described")
    page.get_by_role("button", name="Edit described").click()
    answer(
        page,
        "Edit described",
        "Save",
        Owner="team-a",
        Description="Answers",
        Tags="crm prod",
        Metadata="accuracy = 0.9\nreviewed = yes",
    )
    expect(page.get_by_text("described is changed")).to_be_visible()
    found = read(console, "adapters/described")
    assert (found["owner"], found["tags"]) == ("team-a", ["crm", "prod"])
    assert found["metadata"] == {"accuracy": 0.9, "reviewed": "yes"}
    page.get_by_role("button", name="Edit described").click()
    answer(page, "Edit described", "Save", Metadata="accuracy = 0.9")
    expect(page.get_by_text("reviewed")).to_have_count(0)
    assert read(console, "adapters/described")["metadata"] == {"accuracy": 0.9}


def test_keys_tenants_and_webhooks_are_made_and_ended(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url, width=1440).open("#/tenants")
    page.get_by_role("button", name="New tenant …").click()
    answer(page, "New tenant", "Create", Name="acme", Slots="1")
    expect(page.get_by_role("rowheader", name="acme")).to_be_visible()
    assert read(console, "tenants/acme")["max_slots"] == 1
    region = page.get_by_role("region", name="Tenants: use of limits")
    for width in (1440, 1100):
        page.set_viewport_size({"width": width, "height": 900})
        assert region.evaluate("each => each.scrollWidth <= each.clientWidth"), "no column is cut"
    page.get_by_role("link", name="Keys").click()
    page.get_by_role("button", name="New key …").click()
    page.get_by_role("dialog").get_by_label("infer: ").check()
    answer(page, "New key", "Create", Name="acme~app")
    secret = page.get_by_role("dialog", name="The key acme~app")
    expect(secret.get_by_label("Secret")).to_have_value(re.compile("^adp_"))
    secret.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Revoke acme~app").click()
    answer(page, "Revoke acme~app", "Revoke", **{"Type_acme~app_to_confirm": "acme~app"})
    expect(page.get_by_role("row", name=re.compile("acme~app"))).to_contain_text("revoked")
    page.get_by_role("link", name="Webhooks").click()
    page.get_by_role("button", name="New webhook …").click()
    answer(page, "New webhook", "Create", URL="http://127.0.0.1:9/hook", Events="alias.moved")
    page.get_by_role("dialog").get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Test http").click()
    page.get_by_role("button", name="Deliveries to").click()
    expect(page.get_by_role("region", name="Deliveries")).to_be_visible()
    page.get_by_role("button", name="Delete http").click()
    answer(page, "Delete the webhook", "Delete")
    expect(page.get_by_text("No webhooks.")).to_be_visible()


def test_all_tenants_are_read_in_one_request(console: ConsoleServer, visit: Visit) -> None:
    names = [f"tenant-{n}" for n in range(8)]
    for name in names:
        made = httpx.post(f"{console.url}/api/v1/tenants", json={"name": name}, trust_env=False)
        assert made.status_code == 201, made.text
    asked: list[str] = []
    page = visit(console.url, width=1440).open("#/keys")
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("link", name="Tenants").click()
    for name in names:
        expect(page.get_by_role("rowheader", name=name, exact=True)).to_be_visible()
    assert len([url for url in asked if "/tenants" in url]) == 1


def test_pins_jobs_and_garbage(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url, width=390).open("#/pins")
    page.get_by_role("button", name="Pin …").click()
    answer(page, "Pin an adapter", "Pin", Reference="rot13")
    page.get_by_role("button", name="Unpin rot13:1").click()
    expect(page.get_by_text("Nothing is pinned")).to_be_visible()
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    console.register("garbage", "upper")
    console.register("garbage", "reverse")
    for number in (1, 2):
        url = f"{console.url}/api/v1/adapters/garbage/versions/{number}/retire"
        httpx.post(url, json={"force": True}, trust_env=False, timeout=60).raise_for_status()
    page.get_by_role("link", name="Server", exact=True).click()
    expect(page.get_by_text("database", exact=True)).to_be_visible()
    page.get_by_label("Keep the last").fill("0")
    page.get_by_label("Keep what an alias").fill("0")
    page.get_by_role("button", name="Show what would be purged").click()
    expect(page.get_by_text("garbage:2")).to_be_visible()
    assert read(console, "adapters/garbage/versions/2")["state"] == "retired"
    page.get_by_role("button", name="Purge …").click()
    answer(page, "Collect garbage", "Purge", Type_purge_to_confirm="purge")
    expect(page.get_by_text(re.compile("purged, .* free"))).to_be_visible()
    assert read(console, "adapters/garbage/versions/2")["state"] == "purged"


def test_a_purge_says_what_the_store_has_yet_to_delete(tmp_path: Path, visit: Visit) -> None:
    """Here somebody registers the same files."""
    with console_server(tmp_path) as console:
        console.register("held", "upper")
        console.register("held", "reverse")
        url = f"{console.url}/api/v1/adapters/held/versions/2"
        digest = httpx.post(f"{url}/retire", trust_env=False, timeout=60).json()["digest"]
        page = visit(console.url).open("#/adapters/held?version=2")
        with console.registry.service.store._pending.lock_shared(digest):
            page.get_by_role("button", name="Purge …", exact=True).click()
            answer(page, "Purge held:2", "Purge", **{"Type_held:2_to_confirm": "held:2"})
            said = re.compile("held:2 is purged: .+ free later")
            expect(page.get_by_text(said)).to_be_visible()
        page.close()


def test_the_settings_of_the_cache_are_shown(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url).open("#/server")
    for term, value in {
        "GPU slots": "2 --max-loras",
        "Places in host memory": "4 --max-cpu-loras",
        "Most host memory": "no limit --host-cache-bytes",
        "Eviction policy": "adaptive ADAPTRY_EVICTION_POLICY",
        "History": "24 hours ADAPTRY_HISTORY_HOURS",
    }.items():
        row = page.locator(".facts-list > div").filter(has=page.get_by_text(term, exact=True))
        expect(row.locator("dd")).to_have_text(value)


def test_only_an_accepted_key_signs_in(keyed: ConsoleServer, visit: Visit) -> None:
    visitor = visit(keyed.url)
    visitor.expects_a_refusal()
    page = visitor.open("#/adapters")
    panel = page.get_by_role("dialog", name="Sign in")
    expect(panel).to_be_visible()
    expect(page.locator(".notice.problem")).to_have_count(0)
    panel.get_by_label("Key").fill("adp_wrong")
    panel.get_by_role("button", name="Use this key").click()
    expect(panel.get_by_role("alert")).to_contain_text("not accepted")
    expect(page.locator("#key")).to_have_text("API key")
    panel.get_by_label("Key").fill(keyed.key("operator", Scope.ADMIN))
    panel.get_by_role("button", name="Use this key").click()
    expect(panel).to_have_count(0)
    expect(page.locator("#key")).to_have_text("API key ✓")
    expect(page.get_by_text("Nothing is registered yet.")).to_be_visible()
    expect(page.locator(".notice.problem")).to_have_count(0)
    page.reload()
    expect(page.locator("#key")).to_have_text("API key ✓")
    page.locator("#key").click()
    panel.get_by_label("Key").fill("adp_wrong")
    panel.get_by_role("button", name="Use this key").click()
    expect(panel.get_by_role("alert")).to_contain_text("not accepted")
    page.keyboard.press("Escape")
    expect(page.locator("#key")).to_have_text("API key ✓")


def test_who_closes_the_panel_is_not_asked_by_each_poll(keyed: ConsoleServer, visit: Visit) -> None:
    visitor = visit(keyed.url)
    visitor.expects_a_refusal()
    page = visitor.open("#/jobs")
    panel = page.get_by_role("dialog", name="Sign in")
    expect(panel).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".notice.problem")).to_contain_text("Jobs")
    page.wait_for_timeout(2500)
    expect(panel).to_have_count(0)
    page.get_by_role("link", name="Adapters").click()
    expect(panel).to_be_visible()


def test_a_key_that_may_not_see_the_cache_is_told_so_once(
    keyed: ConsoleServer, visit: Visit
) -> None:
    key = keyed.key("user", Scope.INFER)
    visitor = visit(keyed.url)
    visitor.expects_a_refusal()
    page = visitor.open("#/adapters")
    panel = page.get_by_role("dialog", name="Sign in")
    panel.get_by_label("Key").fill(key)
    panel.get_by_role("button", name="Use this key").click()
    expect(page.locator("#key")).to_have_text("API key ✓")
    page.goto(f"{keyed.url}/console/#/cache")
    expect(page.get_by_text("doesn't have the scope")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.get_by_role("navigation").get_by_role("link", name="Cache")).to_have_count(0)
    page.wait_for_timeout(2500)
    assert [url for url in asked if "/api/" in url] == []
    page.get_by_role("link", name="To the adapters").click()
    expect(page.get_by_text("Nothing is registered yet.")).to_be_visible()
    expect(page.locator(".notice.problem")).to_have_count(0)


def test_keys_of_the_keyboard(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url).open("#/events")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Events")
    page.keyboard.press("g")
    page.keyboard.press("a")
    expect(heading).to_have_text("Adapters")
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("upp?g")
    expect(page.get_by_label("Search")).to_have_value("upp?g")
    page.get_by_label("Search").blur()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_contain_text("Search")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(heading).to_have_text("Cache")


def test_two_versions_are_compared(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url).open("#/compare?a=upper%3A1&b=upper%3A2")
    table = page.get_by_role("region", name="Differences")
    expect(table.get_by_role("row", name=re.compile("^Rank differs 4 8"))).to_be_visible()
    page.get_by_role("button", name="Show differences only").click()
    expect(table.get_by_role("row", name=re.compile("^State"))).to_have_count(0)


def test_prompts_are_saved_under_a_name_and_shared_by_a_link(
    console: ConsoleServer, visit: Visit
) -> None:
    visitor = visit(console.url)
    visitor.expects_a_refusal()  # no engine answers prompts here
    page = visitor.open("#/compare?a=upper%3A1&b=upper%3A2")
    page.get_by_label("Prompts", exact=True).fill("hello\n\nWrite to a customer.")
    page.get_by_role("button", name="Save the prompts …").click()
    answer(page, "Save the prompts", "Save", Name="tickets")
    chosen = page.get_by_label("Saved prompts")
    expect(chosen).to_have_value("tickets")
    assert read(console, "prompts/tickets")["prompts"] == ["hello", "Write to a customer."]
    expect(page).to_have_url(re.compile("set=tickets$"))
    shared = visitor.open(f"#{page.url.partition('#')[2]}")
    expect(shared.get_by_label("Prompts", exact=True)).to_have_value("hello\nWrite to a customer.")
    answers = shared.get_by_role("region", name=re.compile("^Prompt "))
    expect(answers).to_have_count(2)
    shared.close()
    page.get_by_role("button", name="Rename tickets …").click()
    answer(page, "Rename tickets", "Rename", Name="mail")
    expect(page).to_have_url(re.compile("set=mail$"))
    page.get_by_label("Prompts", exact=True).fill("another")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(chosen).to_have_value("")
    expect(page).to_have_url(re.compile("prompts=another$"))
    chosen.select_option("mail")
    expect(page.get_by_label("Prompts", exact=True)).to_have_value("hello\nWrite to a customer.")
    page.get_by_role("button", name="Delete mail …").click()
    answer(page, "Delete mail", "Delete")
    expect(chosen).to_have_value("")
    assert read(console, "prompts")["items"] == []


def test_a_set_of_prompts_that_was_deleted_meanwhile_is_told(
    console: ConsoleServer, visit: Visit
) -> None:
    path = f"{console.url}/api/v1/prompts/brief"
    httpx.put(path, json={"prompts": ["hello"]}, trust_env=False).raise_for_status()
    visitor = visit(console.url)
    visitor.expects_a_refusal()
    page = visitor.open("#/compare")
    chosen = page.get_by_label("Saved prompts")
    expect(chosen.get_by_role("option", name="brief")).to_have_count(1)
    httpx.delete(path, trust_env=False).raise_for_status()
    chosen.select_option("brief")
    expect(page.get_by_role("alert")).to_contain_text("Saved prompts: ")
    expect(chosen.get_by_role("option")).to_have_text(["none yet"])
    expect(chosen).to_have_value("")
    of_link = visitor.open("#/compare?set=brief")
    expect(of_link.get_by_role("alert")).to_contain_text("Saved prompts: ")


def test_settings_and_the_state_of_database_and_store(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url, width=1440).open("#/server")
    section = page.locator("section", has=page.get_by_role("heading", name="Database and store"))
    expect(section).to_contain_text("SQLite: answers, schema")
    expect(section).to_contain_text("free of")
    table = page.get_by_role("region", name="All settings")
    expect(table.get_by_role("row", name=re.compile("^ADAPTRY_STORE "))).to_be_visible()
    expect(table.get_by_role("row", name=re.compile("^--max-loras 2 "))).to_be_visible()
    page.get_by_label("Without defaults").uncheck()
    page.get_by_label("Search settings").fill("webhook timeout")
    expect(table.get_by_role("rowheader")).to_have_text(["ADAPTRY_WEBHOOK_TIMEOUT_SECONDS"])


def test_a_phone_says_whose_each_value_is(console: ConsoleServer, visit: Visit) -> None:
    page = visit(console.url, width=390).open("#/compare?a=upper%3A1&b=upper%3A2")
    cells = page.get_by_role("row", name=re.compile("^Rank differs")).locator("td")
    expect(cells).to_have_count(2)
    named = "cells => cells.map(each => getComputedStyle(each, '::before').content)"
    assert cells.evaluate_all(named) == ['"upper:1"', '"upper:2"']


def test_a_page_that_is_left_calls_nobody_back(console: ConsoleServer, visit: Visit) -> None:
    """Its last answer may be drawn after the click on a link, and before the next page."""
    page = visit(console.url).open("#/jobs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    page.get_by_label("State").evaluate(LEAVE_AND_CHOOSE)
    expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
