"""Fixtures: a real Chromium over the console; its errors and warnings fail the test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.console_server import ConsoleServer, console_server
from tests.browser.scripted_server import Scripted, scripted_server
from tests.conftest import LiveServer, running_live_server

WAIT_MS = 30_000
WIDTH, HEIGHT = 1280, 900


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory, group_end: ExitStack) -> LiveServer:
    """In place of the session's, whose tests run in another process or have ended."""
    return group_end.enter_context(running_live_server(tmp_path_factory.mktemp("browser")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One per file: while it is open, no other test of this process can have an event loop."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        # to compute a GPU that is not there takes a tenth of the CPU time of each page
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Device:
    """What a visitor looks at the console with."""

    width: int = WIDTH
    height: int = HEIGHT
    colours: Literal["light", "dark"] = "light"


@dataclass
class Visitor:
    """A user with a browser profile of their own: cookies, keys and colours are not shared."""

    base_url: str
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)
    is_refused: bool = False

    def open(self, address: str = "") -> Page:
        """A tab at `#/…` of the console."""
        page = self.context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{self.base_url}/console/{address}")
        return page

    def use_key(self, key: str) -> None:
        """In each tab that is opened from now on."""
        self.context.add_init_script(f"sessionStorage.setItem('adaptry.key', '{key}')")

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def expects_a_refusal(self) -> None:
        """The browser reports every response over 399 as an error; here it is expected."""
        self.is_refused = True

    def unexpected(self) -> list[str]:
        refused = [text for text in self.complaints if text.startswith("Failed to load resource")]
        if not self.is_refused:
            return self.complaints
        assert refused, "nothing was refused"
        return [text for text in self.complaints if text not in refused]


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Makes visitors. At the end, none of their pages may have logged an error or warning.

    Violations of the content security policy are among these.
    """
    visitors: list[Visitor] = []

    def make(
        base_url: str,
        *,
        width: int = WIDTH,
        colours: Literal["light", "dark"] = "light",
        device: Device | None = None,
    ) -> Visitor:
        seen = device or Device(width, colours=colours)
        context = browser.new_context(
            viewport={"width": seen.width, "height": seen.height},
            color_scheme=seen.colours,
            reduced_motion="reduce",
        )
        visitors.append(Visitor(base_url, context))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.context.close()
    assert [text for visitor in visitors for text in visitor.unexpected()] == []


@pytest.fixture
def scripted() -> Iterator[tuple[str, Scripted]]:
    with scripted_server() as served:
        yield served


@pytest.fixture
def visitor(scripted: tuple[str, Scripted], visit: Visit) -> Visitor:
    """Of the server that fails on purpose."""
    return visit(scripted[0])


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """A page of the same origin without scripts of its own."""
    return visitor.open("../blank")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    """Everything but an engine, with three adapters of the demo; `upper` has two versions."""
    with console_server(tmp_path_factory.mktemp("console")) as server:
        for name, folder in (("upper", "upper"), ("upper", "vowels"), ("rot13", "rot13")):
            server.register(name, folder)
        for name in ("upper", "rot13", "upper"):
            server.ask(name)
        yield server
