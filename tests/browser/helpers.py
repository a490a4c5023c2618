"""Helpers of console tests: requests to the server, and locators on its pages."""

from typing import Any

from playwright.sync_api import Locator, Page, expect

from demo.tasks import prompt_for
from tests.conftest import ROOT


def ask(server: Any, model: str) -> None:
    response = server.complete(model, prompt_for("hello"))
    assert response.status_code == 200, response.text


def pins(server: Any) -> dict[str, str]:
    items = server.client.get("/api/v1/cache/pins").json()["items"]
    return {pin["reference"]: pin["tier"] for pin in items}


def alias(server: Any, name: str, which: str = "default") -> dict[str, Any]:
    read: dict[str, Any] = server.client.get(f"/api/v1/adapters/{name}/aliases/{which}").json()
    return read


def with_two_versions(server: Any, name: str) -> None:
    for folder in ("upper", "vowels"):
        server.register(name, ROOT / "demo" / "adapters" / folder)


def probe_once(server: Any) -> None:
    """An engine's first probe compiles the log probabilities of prompts, which takes seconds."""
    url = "/api/v1/adapters/upper/versions/1/probe"
    assert server.client.post(url, timeout=120).status_code == 200


def is_live(page: Page) -> None:
    expect(page.locator("#link-state")).to_have_text("live")


def tier(page: Page, title: str) -> Locator:
    return page.get_by_role("list", name=title, exact=True)
