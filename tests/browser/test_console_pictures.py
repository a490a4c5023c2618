"""The screenshots in docs/console.md, taken of a real server.

`CONSOLE_PICTURES=1 pytest tests/browser/test_console_pictures.py` replaces those in docs/images.
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from demo.tasks import TASKS, prompt_for
from tests.browser.conftest import Visit
from tests.browser.console_server import ConsoleServer, console_server
from tests.browser.recorded_night import Night, record_hours
from tests.conftest import ROOT

IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 200_000
MOST_BYTES_OF_ALL = 1_500_000
NAME = "support"
DESCRIBED = {
    "description": "Answers tickets, in the tone of the house",
    "owner": "team-support",
    "tags": ["crm", "lang:en"],
    "metadata": {"accuracy": 0.91, "reviewed": "2026-11-20"},
}
REGISTERED = [(NAME, "upper"), (NAME, "vowels"), ("mail", "rot13"), ("notes", "reverse")]
REGISTERED += [("orders", "stars"), ("returns", "double")]
LOOKUPS = 210  # with fewer, the page on sizing recommends nothing
KEPT: list[tuple[str, dict[str, Any]]] = [
    ("tenants", {"name": "acme", "max_slots": 2, "max_pins": 1}),
    ("keys", {"name": "ci", "scopes": ["publish"]}),
    ("keys", {"name": "acme~app", "scopes": ["infer"]}),
    ("webhooks", {"url": "http://127.0.0.1:9/hook", "kinds": ["alias.moved"]}),
    ("cache/pins", {"reference": NAME, "tier": "gpu"}),
]
SHOTS = {
    "cache": "#/cache?ref=upper:1",
    "adapter": f"#/adapters/{NAME}?version=2",
    "try": f"#/try?a={NAME}%40default&b={NAME}%3A1&prompt=hello%3D&max_tokens=16",
    "events": "#/events",
}

HEIGHTS = {"cache": 1080, "adapter": 900, "try": 620, "events": 700}
REGISTRY_SHOTS = {
    "adapters": ("#/adapters?sort=rank", 640),
    "publish": ("#/publish?name=tickets", 900),
    "compare": (f"#/compare?a={NAME}%3A1&b={NAME}%3A2", 800),
    "history": ("#/history?at={night}", 1180),
    "versions": ("#/versions", 520),
    "sizing": ("#/sizing", 620),
    "jobs": ("#/jobs", 420),
    "pins": ("#/pins", 360),
    "keys": ("#/keys", 420),
    "tenants": ("#/tenants", 380),
    "webhooks": ("#/webhooks", 420),
    "server": ("#/server", 670),
    "sign-in": ("#/adapters", 520),
    "help": ("#/adapters", 560),
}
"""Of pages that need no engine, with the height of each."""
NIGHT, THRASHING = Night(), 3.5 * 3600 + 4


def push(client: httpx.Client, name: str, folder: Path) -> None:
    """Uploaded, as a screenshot should show no path of this machine."""
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    response = client.post(f"/api/v1/adapters/{name}/versions", files=files)
    assert response.status_code == 201, response.text


@pytest.fixture
def busy(server: Any) -> Any:
    """A support adapter with a history, a pin, and a minute of mixed traffic."""
    for version, task in enumerate(("reverse", "upper"), start=1):
        push(server.client, NAME, ROOT / "demo" / "adapters" / task)
        base = f"/api/v1/adapters/{NAME}"
        server.client.patch(f"{base}/versions/{version}", json={"training_run": f"runs/4{version}"})
    server.client.patch(base, json=DESCRIBED)
    moved = {"version": 2, "reason": "better on last week's tickets"}
    server.client.put(f"{base}/aliases/default", json=moved)
    server.client.post("/api/v1/cache/pins", json={"reference": f"{NAME}:2", "tier": "gpu"})
    return server


@contextmanager
def traffic(server: Any) -> Iterator[None]:
    """Two clients that request five adapters, one of them more often than the others."""
    names = [NAME, *sorted(TASKS)[-4:]]
    ending = threading.Event()

    def ask(turn: int) -> None:
        while not ending.wait(0.1 + 0.1 * (turn % 5)):
            model = names[turn % len(names)] if turn % 3 else NAME
            server.complete(model, prompt_for("hello"), max_tokens=24)
            turn += 7

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask, turn) for turn in range(2)]
        try:
            yield
        finally:
            ending.set()
        for client in clients:
            client.result()


def show(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if name == "cache":
        page.get_by_role("button", name="Why?", exact=True).click()
        expect(page.locator(".why .summary")).to_contain_text("upper:1")
    if name == "try":
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("tokens/s")).to_have_count(2)
    page.wait_for_timeout(500)


def take(page: Page, picture: Path) -> None:
    """In 256 colours, which are enough for these pages."""
    page.mouse.move(0, 0)
    page.screenshot(path=picture)
    with Image.open(picture) as whole:
        whole.convert("RGB").quantize(256).save(picture, optimize=True)


@pytest.fixture
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    """A registry that has been in use for a while, without an engine."""
    with console_server(tmp_path_factory.mktemp("kept")) as server:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            for name, task in REGISTERED:
                push(client, name, ROOT / "demo" / "adapters" / task)
            for path, body in KEPT:
                client.post(f"/api/v1/{path}", json=body).raise_for_status()
            client.patch(f"/api/v1/adapters/{NAME}", json=DESCRIBED).raise_for_status()
        server.add_many()
        for turn in range(LOOKUPS):
            server.ask(REGISTERED[turn * turn % len(REGISTERED)][0])
        server.run(record_hours(server.registry.database, server.registry.server_id, NIGHT))
        yield server


def show_registry(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if name == "publish":
        files = sorted((ROOT / "demo" / "adapters" / "reverse").iterdir())
        page.get_by_label("Files or an archive").set_input_files(files)
        page.get_by_role("button", name="Publish", exact=True).click()
        expect(page.get_by_role("heading", name="tickets:1")).to_be_visible()
    if name == "adapters":
        expect(page.get_by_text("100,00")).to_be_visible()
    if name == "sign-in":
        page.locator("#key").click()
    if name == "help":
        page.keyboard.press("?")
    if name in ("sign-in", "help"):
        expect(page.get_by_role("dialog")).to_be_visible()
    page.wait_for_timeout(300)


def test_pictures_of_the_registrys_pages(kept: ConsoleServer, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(kept.url)
    for name, (address, height) in REGISTRY_SHOTS.items():
        page = visitor.open(address.format(night=NIGHT.at(THRASHING)))
        page.set_viewport_size({"width": 1100, "height": height})
        show_registry(page, name)
        take(page, tmp_path / f"console-{name}.png")
        page.close()
    keep(tmp_path)


@pytest.mark.engine
def test_pictures_for_the_documents(busy: Any, visit: Visit, tmp_path: Path) -> None:
    asked = bool(os.environ.get("CONSOLE_PICTURES"))
    with traffic(busy):
        time.sleep(60 if asked else 1)
        for colours in ("light", "dark"):
            visitor = visit(busy.base_url, colours=colours)
            for name, address in SHOTS.items():
                page = visitor.open(address)
                page.set_viewport_size({"width": 1280, "height": HEIGHTS[name]})
                show(page, name)
                picture = tmp_path / f"console-{name}-{colours}.png"
                take(page, picture)
                page.close()
    keep(tmp_path)


def keep(folder: Path) -> None:
    """Each picture shows something; they replace those of the documents if that is asked for."""
    for picture in folder.glob("*.png"):
        assert 5_000 < picture.stat().st_size < MOST_BYTES, picture
        if os.environ.get("CONSOLE_PICTURES"):
            shutil.copy(picture, IMAGES)


def test_the_page_shows_every_picture_and_no_other() -> None:
    text = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    pictures = {path.name for path in IMAGES.glob("console-*.png")}
    taken = {f"console-{name}-{colours}.png" for name in SHOTS for colours in ("light", "dark")}
    assert pictures == taken | {f"console-{name}.png" for name in REGISTRY_SHOTS}
    assert [name for name in pictures if f"(images/{name})" not in text] == []
    assert all(alternative for alternative in re.findall(r"!\[(.*?)\]\(images/", text))
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) < MOST_BYTES_OF_ALL
