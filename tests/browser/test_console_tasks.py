"""The console's tasks, each done as its user would: with a key, on a desktop in light and on a
phone in dark, beside live traffic, in a registry of 100,000 adapters."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from registry.auth.scopes import Scope
from tests.browser.conftest import Device, Visit, Visitor
from tests.browser.console_server import ROOT, ConsoleServer, console_server

DEMO = ROOT / "demo" / "adapters"
DEVICES = [
    pytest.param(Device(1440, 900, "light"), id="desktop"),
    pytest.param(Device(390, 844, "dark"), id="phone"),
]
ASKED = ("upper", "rot13", "vowels", "reverse")  # more than the slots


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    with console_server(tmp_path_factory.mktemp("tasks"), require_keys=True) as server:
        for name in ASKED:
            server.register(name, name)
        server.register("upper", "vowels")
        tenants = server.registry.tenants.create_service(server.cache.controller.tenants.usage)
        server.run(tenants.create("acme", {}, actor="test"))
        server.register("acme~notes", "upper")
        server.add_many()
        with traffic(server):
            yield server


@contextmanager
def traffic(server: ConsoleServer) -> Iterator[None]:
    ending = threading.Event()

    def ask() -> None:
        turn = 0
        while not ending.wait(0.2):
            server.ask(ASKED[turn % len(ASKED)])
            turn += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ending.set()
        asking.join()


def signed_in(visitor: Visitor, key: str, address: str) -> Page:
    """As who opens the page for the first time: the panel asks for the key."""
    visitor.expects_a_refusal()
    page = visitor.open(address)
    panel = page.get_by_role("dialog", name="Sign in")
    field = panel.get_by_label("Key")
    field.fill(key)
    field.press("Enter")
    expect(page.get_by_role("button", name="API key ✓")).to_be_visible()
    expect(panel).to_have_count(0)
    return page


def send(page: Page, title: str, verb: str, **fields: str) -> None:
    dialog = page.get_by_role("dialog", name=title)
    for label, value in fields.items():
        dialog.get_by_label(label.replace("_", " ")).fill(value)
    dialog.get_by_role("button", name=verb, exact=True).click()
    expect(dialog).to_have_count(0)


def publish(page: Page, folder: str) -> Locator:
    files: list[Path] = sorted((DEMO / folder).iterdir())
    page.get_by_label("Files or an archive").set_input_files(files)
    page.get_by_role("button", name="Publish", exact=True).click()
    return page.get_by_role("region", name="The new version")


@pytest.mark.parametrize("device", DEVICES)
def test_a_publisher_sends_a_version_and_rolls_it_back(
    busy: ConsoleServer, visit: Visit, device: Device
) -> None:
    name = f"tickets-{device.width}"
    key = busy.key(f"publisher-{device.width}", Scope.PUBLISH)
    page = signed_in(visit(busy.url, device=device), key, f"#/publish?name={name}")
    expect(publish(page, "upper").get_by_role("heading", name=f"{name}:1")).to_be_visible()
    done = publish(page, "reverse")
    expect(done.get_by_role("heading", name=f"{name}:2")).to_be_visible()
    done.get_by_role("button", name="Promote …").click()
    page.get_by_role("dialog").get_by_role("slider").fill("10")
    send(page, f"Promote {name}:2", "Promote")
    expect(page.get_by_text(f"{name}@default means version 1 (90 %), 2 (10 %)")).to_be_visible()
    page.get_by_role("link", name=f"{name}:2").click()
    page.get_by_role("button", name="Roll back 1 (90 %), 2 (10 %) → 1").click()
    send(page, f"Roll back {name}@default", "Roll back", Reason="worse on Mondays")
    expect(page.get_by_text(f"{name}@default means version 1 again")).to_be_visible()
    for step in ("Quarantine …", "Pin in a slot", "Prefetch"):  # an operator's
        expect(page.get_by_role("button", name=step)).to_have_count(0)
    page.get_by_role("button", name="Retire …").click()
    send(page, f"Retire {name}:2", "Retire")
    expect(page.get_by_role("row", name=re.compile(f"{name}:2 ")).locator(".state")).to_have_text(
        "retired"
    )


@pytest.mark.parametrize("device", DEVICES)
def test_an_operator_finds_an_adapter_describes_it_and_looks_who_did(
    busy: ConsoleServer, visit: Visit, device: Device
) -> None:
    key = busy.key(f"operator-{device.width}", Scope.ADMIN)
    visitor = visit(busy.url, device=device)
    page = signed_in(visitor, key, "#/adapters")
    expect(page.get_by_role("status").filter(has_text="adapters")).to_contain_text("100,00")
    page.keyboard.press("/")
    part = {1440: "omer-00042", 390: "omer-00777"}[device.width]
    page.keyboard.type(part)
    expect(page.get_by_text("10 adapters", exact=True)).to_be_visible()
    page.get_by_role("link", name=f"cust{part}7").click()
    page.get_by_role("button", name=f"Edit cust{part}7", exact=True).click()
    send(page, f"Edit cust{part}7", "Save", Owner="team-x", Tags="crm gold", Metadata="tier = 1")
    expect(page.get_by_text("gold", exact=True)).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Events").click()
    changed = page.locator(".event", has_text=f"cust{part}7").first
    expect(changed).to_contain_text(f"by operator-{device.width}")
    page.go_back()
    page.go_back()
    expect(page.get_by_text("10 adapters", exact=True)).to_be_visible()


@pytest.mark.parametrize("device", DEVICES)
def test_an_operator_minds_the_server(busy: ConsoleServer, visit: Visit, device: Device) -> None:
    key = busy.key(f"minder-{device.width}", Scope.ADMIN)
    name, tenant = f"draft-{device.width}", f"guest-{device.width}"
    busy.register(name, "upper")
    busy.register(name, "rot13")
    page = signed_in(visit(busy.url, device=device), key, f"#/adapters/{name}?version=2")
    for step, fields in (
        ("Quarantine", {"Reason": "it rambles"}),
        ("Restore", {}),
        ("Retire", {}),
        ("Purge", {f"Type_{name}:2_to_confirm": f"{name}:2"}),
    ):
        page.get_by_role("button", name=f"{step} …", exact=True).click()
        send(page, f"{step} {name}:2", step, **fields)
    expect(page.get_by_text("purged", exact=True)).to_be_visible()
    page.get_by_role("link", name="Manage").click()
    page.get_by_role("link", name="Tenants").click()
    page.get_by_role("button", name="New tenant …").click()
    send(page, "New tenant", "Create", Name=tenant, Slots="1")
    page.get_by_role("link", name="Keys").click()
    page.get_by_role("button", name="New key …").click()
    page.get_by_role("dialog").get_by_label("infer: ").check()
    send(page, "New key", "Create", Name=f"{tenant}~app")
    page.get_by_role("dialog").get_by_role("button", name="Done").click()
    expect(page.get_by_role("rowheader", name=f"{tenant}~app")).to_be_visible()
    page.get_by_role("link", name="Pins").click()
    page.get_by_role("button", name="Pin …").click()
    send(page, "Pin an adapter", "Pin", Reference=name)
    page.get_by_role("button", name=f"Unpin {name}:1").click()
    expect(page.get_by_text("Nothing is pinned")).to_be_visible()


@pytest.mark.parametrize("device", DEVICES)
def test_a_tenants_key_meets_its_own_alone(
    busy: ConsoleServer, visit: Visit, device: Device
) -> None:
    key = busy.key(f"acme~boss-{device.width}", Scope.ADMIN)
    page = signed_in(visit(busy.url, device=device), key, "#/adapters")
    expect(page.get_by_role("rowheader").first).to_have_text(re.compile("^acme~"))
    names = page.get_by_role("rowheader").all_inner_texts()
    assert [name for name in names if not name.startswith("acme~")] == []
    name = f"acme~mail-{device.width}"
    page.get_by_role("link", name="Publish").click()
    page.get_by_label("Adapter", exact=True).fill(name)
    expect(publish(page, "stars").get_by_role("heading", name=f"{name}:1")).to_be_visible()
    page.get_by_role("link", name="Manage").click()
    nav = page.get_by_role("navigation", name="Manage")
    for allowed in ("Jobs", "Pins", "Keys"):
        expect(nav.get_by_role("link", name=allowed)).to_be_visible()
    for platform in ("Tenants", "Webhooks", "Server"):
        expect(nav.get_by_role("link", name=platform)).to_have_count(0)
    page.get_by_role("link", name="Keys").click()
    expect(page.get_by_role("rowheader").first).to_have_text(re.compile("^acme~"))
    expect(page.get_by_role("rowheader", name="operator")).to_have_count(0)
    page.get_by_role("link", name="Events").click()
    expect(page.locator(".event", has_text=name).first).to_be_visible()
    expect(page.locator(".event", has_text="upper")).to_have_count(0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_key_that_only_infers_is_offered_no_change(
    busy: ConsoleServer, visit: Visit, device: Device
) -> None:
    key = busy.key(f"reader-{device.width}", Scope.INFER)
    page = signed_in(visit(busy.url, device=device), key, "#/adapters/upper?version=2")
    expect(page.get_by_role("link", name="Compare")).to_be_visible()
    offered = page.get_by_role("main").get_by_role("button").all_inner_texts()
    assert [text for text in offered if text not in ("Details", "History")] == []
    page.get_by_role("link", name="Compare").click()
    table = page.get_by_role("region", name="Differences")
    rank = "^Rank differs (upper:1 )?4 (upper:2 )?8"  # a phone names the version at each value
    expect(table.get_by_role("row", name=re.compile(rank))).to_be_visible()
    page.get_by_role("button", name="Show differences only").click()
    expect(table.get_by_role("row", name=re.compile("^State"))).to_have_count(0)
    links = page.get_by_role("navigation", name="Console").get_by_role("link")
    expect(links.filter(visible=True)).to_have_text(["Adapters", "Try it", "Manage"])
