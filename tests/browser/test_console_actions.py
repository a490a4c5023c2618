"""What is done in the console is done: pins, promotions, and their refusals."""

import shutil
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.helpers import alias, ask, pins, probe_once, tier, with_two_versions
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine]

PROMOTION_MILLISECONDS = 60_000  # it loads and probes the version first


def test_a_pin_that_is_made_by_keyboard_alone_is_true(server: Any, visit: Visit) -> None:
    ask(server, "upper")
    page = visit(server.base_url).open()
    cell = tier(page, "GPU slots").get_by_role("button", name="upper:1")
    expect(cell).to_be_visible()

    def walk_to(wanted: Any) -> None:
        for _ in range(60):
            if wanted.evaluate("(element) => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{wanted} can't be reached by keyboard")

    walk_to(cell)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Control")).to_be_focused()
    pin = page.get_by_role("button", name="Pin in a slot", exact=True)
    walk_to(pin)
    outline = pin.evaluate("(element) => getComputedStyle(element).outlineStyle")
    assert outline == "solid", "where the focus is can't be seen"
    page.keyboard.press("Enter")
    expect(page.get_by_text("upper:1 is pinned in a GPU slot")).to_be_visible()
    assert pins(server) == {"upper:1": "gpu"}
    expect(cell).to_contain_text("◆ pinned gpu")
    walk_to(page.get_by_role("button", name="Unpin", exact=True))
    page.keyboard.press("Space")
    expect(page.get_by_text("upper:1 is unpinned")).to_be_visible()
    assert pins(server) == {}


def test_prefetch_and_evict(server: Any, visit: Visit) -> None:
    page = visit(server.base_url).open("#/cache?ref=rot13")
    expect(page.get_by_text("rot13 is not in memory.")).to_be_visible()
    page.get_by_role("button", name="Prefetch").click()
    host = tier(page, "Host memory")
    expect(host.get_by_role("button", name="rot13:1")).to_be_visible()
    assert [r["reference"] for r in server.client.get("/api/v1/cache").json()["host"]] == [
        "rot13:1"
    ]
    page.get_by_role("button", name="Evict", exact=True).click()
    expect(page.get_by_text("rot13:1 is evicted")).to_be_visible()
    assert server.client.get("/api/v1/cache").json()["host"] == []


def test_a_refusal_is_shown_with_its_code(server: Any, visit: Visit) -> None:
    visitor = visit(server.base_url)
    page = visitor.open("#/cache?ref=upper")
    page.get_by_role("button", name="Unpin", exact=True).click()
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("this adapter is not pinned")
    expect(problem).to_contain_text("not_pinned")
    problem.get_by_role("button", name="Dismiss").click()
    expect(problem).to_have_count(0)
    visitor.expects_a_refusal()


def test_a_promotion_and_its_rollback_are_true(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-promoted")
    probe_once(server)
    page = visit(server.base_url).open("#/adapters/console-promoted?version=2")
    page.get_by_role("button", name="Promote …").click()
    dialog = page.get_by_role("dialog", name="Promote console-promoted:2")
    expect(dialog).to_contain_text("It moves only if it is still at version 1.")
    dialog.get_by_label("Probe").check()
    dialog.get_by_label("Reason").fill("the better one")
    dialog.get_by_role("button", name="Promote").click()
    moved_text = page.get_by_text("console-promoted@default means version 2")
    expect(moved_text).to_be_visible(timeout=PROMOTION_MILLISECONDS)
    moved = alias(server, "console-promoted")
    assert (moved["version"], moved["reason"]) == (2, "the better one")
    row = page.get_by_role("row").filter(has_text="@default").filter(has_text="Roll back")
    expect(row).to_contain_text("the better one")
    row.get_by_role("button", name="History").click()
    page.get_by_role("button", name="Back to this …").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    again = page.get_by_text("console-promoted@default means version 1 again")
    expect(again).to_be_visible(timeout=PROMOTION_MILLISECONDS)
    assert alias(server, "console-promoted")["version"] == 1


def test_a_promotion_does_not_undo_another_users_move(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-contested")
    visitor = visit(server.base_url)
    page = visitor.open("#/adapters/console-contested?version=1")
    page.get_by_role("button", name="Promote …").click()
    server.client.put("/api/v1/adapters/console-contested/aliases/default", json={"version": 2})
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Promote").click()
    expect(dialog.get_by_role("alert")).to_contain_text("alias_moved")
    assert alias(server, "console-contested")["version"] == 2
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    visitor.expects_a_refusal()


def test_what_a_version_was_trained_with_is_shown_and_switched(server: Any, visit: Visit) -> None:
    name = "console-trained"
    folder = shutil.copytree(ROOT / "demo" / "adapters" / "rot13", server.state / name)
    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}!=")
    (folder / "generation_config.json").write_text('{"temperature": 0.5}')
    server.register(name, folder)
    page = visit(server.base_url).open(f"#/adapters/{name}?version=1")
    expect(page.get_by_text("temperature 0.5", exact=True)).to_be_visible()
    for setting, what in (
        ("serve_chat_template", "chat template"),
        ("serve_sampling_defaults", "sampling defaults"),
    ):
        on = page.get_by_role("button", name=f"Serve each version's own {what}")
        on.click()
        off = page.get_by_role("button", name=f"Serve the base model's {what}")
        expect(off).to_be_visible()
        assert server.client.get(f"/api/v1/adapters/{name}").json()[setting] is True
        off.click()
        expect(on).to_be_visible()
        assert server.client.get(f"/api/v1/adapters/{name}").json()[setting] is False
