"""Nothing that users wrote runs in the console, and keys go nowhere else."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.helpers import is_live, with_two_versions

pytestmark = [pytest.mark.engine]

MARKUP = '<img src="x" onerror="document.title=\'taken\'"><script>document.title="taken"</script>'


def test_markup_of_users_is_shown_and_not_run(server: Any, visit: Visit) -> None:
    with_two_versions(server, "console-hostile")
    said = {"description": MARKUP, "metadata": {MARKUP: MARKUP, "deep": {"er": [MARKUP]}}}
    base = "/api/v1/adapters/console-hostile"
    assert server.client.patch(base, json={**said, "owner": MARKUP}).status_code == 200
    version = {**said, "training_run": MARKUP, "dataset": MARKUP}
    assert server.client.patch(f"{base}/versions/2", json=version).status_code == 200
    moved = {"version": 2, "reason": MARKUP}
    assert server.client.put(f"{base}/aliases/default", json=moved).status_code == 200
    visitor = visit(server.base_url)
    for address in (
        "#/adapters/console-hostile?version=2",
        "#/adapters?text=console-hostile",
        "#/events?adapter=console-hostile",
    ):
        page = visitor.open(address)
        expect(page.get_by_text(MARKUP).first).to_be_visible()
        assert page.locator("#content img, #content script").count() == 0
        assert page.title() != "taken"
    page = visitor.open("#/adapters/" + MARKUP.replace("/", "%2F"))
    expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    expect(page.get_by_role("alert").first).to_be_visible()
    visitor.expects_a_refusal()


def test_the_policy_stops_what_would_be_run(server: Any, visit: Visit) -> None:
    """What the tests above rely on: a script or an inline style would be complained of."""
    visitor = visit(server.base_url)
    page = visitor.open("#/try")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    parse = "() => { try { document.body.innerHTML = '<b>' } catch (error) { return `${error}` } }"
    assert "TrustedHTML" in page.evaluate(parse)
    page.evaluate("document.body.append(Object.assign(document.createElement('i'), {id: 'i'}))")
    page.evaluate("document.getElementById('i').setAttribute('style', 'color: red')")
    page.wait_for_timeout(100)
    assert len(visitor.complaints) == 2
    visitor.complaints.clear()


def test_a_key_is_sent_with_everything_and_forgotten_with_the_tab(
    server: Any, visit: Visit
) -> None:
    visitor = visit(server.base_url)
    page = visitor.open("#/cache")
    is_live(page)
    page.get_by_role("button", name="API key").click()
    sent: list[tuple[str, str | None]] = []
    page.on(
        "request", lambda request: sent.append((request.url, request.headers.get("authorization")))
    )
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Key").fill("sesame")
    dialog.get_by_role("button", name="Use this key").click()
    is_live(page)
    expect(dialog).to_have_count(0)
    page.wait_for_timeout(300)
    asked = [(url, header) for url, header in sent if "/api/" in url]
    while asked and asked[0][1] is None:  # before the key was given
        asked.pop(0)
    assert any(url.endswith("/cache/stream") for url, _ in asked)
    assert {header for _, header in asked} == {"Bearer sesame"}
    assert page.evaluate("JSON.stringify({...localStorage})").find("sesame") == -1
    assert visitor.open("#/cache").evaluate("sessionStorage.length") == 0
