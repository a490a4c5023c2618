"""A user story: from the console alone, find the thrashing adapter, pin it, and see it help."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from demo.tasks import prompt_for
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.engine]

ROUNDS = 60
ADVICE = re.compile(r"[Pp]in it,? or raise --max-(cpu-)?loras")
HURT, *OTHERS = "upper", "rot13", "vowels"  # three in turn, and the demo has two slots


def ask(server: Any, model: str) -> str:
    response = server.complete(model, prompt_for("hello"), max_tokens=4)
    assert response.status_code == 200, response.text
    return str(response.headers["x-adaptry-cache"])


def share_in_slots(page: Page) -> int:
    """The percentage that the page shows of the last minute."""
    figure = page.get_by_role("figure").filter(has_text="Hit ratio")
    caption = figure.get_by_text("in a slot,")
    expect(caption).to_be_visible()
    found = re.search(r"(\d+) % in a slot", caption.inner_text())
    assert found
    return int(found[1])


def test_thrashing_is_shown_explained_and_ended_by_a_pin(server: Any, visit: Visit) -> None:
    page = visit(server.base_url).open()
    called_out = page.get_by_role("region", name="Thrashing").get_by_role("listitem")
    row = called_out.filter(has_text=HURT)
    for _ in range(ROUNDS):
        for model in (HURT, *OTHERS):
            ask(server, model)
        page.wait_for_timeout(20)
        if row.is_visible() and share_in_slots(page) < 40:
            break
    before = share_in_slots(page)
    assert before < 40

    expect(row).to_contain_text(re.compile(r"evicted \d+ times from its GPU slot"))
    expect(row).to_contain_text(ADVICE)
    mend = page.get_by_role("region", name="Thrashing").locator(".mend")
    # how many depends on what else was asked of this server in the window
    expect(mend).to_contain_text(re.compile(r"With --max-loras [3-9], \d+% more of the requests"))
    row.get_by_role("button", name=f"Why does {HURT} thrash?").click()
    panel = page.get_by_role("region", name="Control an adapter")
    expect(panel).to_contain_text(re.compile(r"evicted from GPU slot \d for (rot13|vowels):1"))
    expect(panel).to_contain_text(ADVICE)

    row.get_by_role("button", name=f"Pin in a slot: {HURT}").click()
    expect(page.get_by_text(f"{HURT}:1 is pinned in a GPU slot")).to_be_visible()
    for _ in range(ROUNDS):
        assert ask(server, HURT) == "gpu_hit"
        ask(server, HURT)
        ask(server, OTHERS[0])
        if share_in_slots(page) >= before + 20:
            break
        page.wait_for_timeout(50)
    assert share_in_slots(page) >= before + 20
    slots = page.get_by_role("list", name="GPU slots")
    expect(slots.get_by_role("button", name=f"{HURT}:1")).to_contain_text("◆ pinned gpu")
