"""Our console, driven, over `adaptry serve` with the demo's model."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page
from sqlalchemy import create_engine, insert

from adaptry.client import Client
from benchmarks.console.hand import Effort, Hand
from benchmarks.console.tasks import ALIAS, DESCRIPTION, MANY, PART, name_of
from registry.database.engine import Database
from registry.models import Adapter
from registry.models.base import now
from registry.servers import default_server_id
from tests.browser.recorded_night import Night, record_hours
from tests.support.servers.adaptry_serve import ROOT, START_SECONDS, ServedDemo

NIGHT_HOURS_BEFORE, THRASHING_SECONDS = 2, 3.5 * 3600 + 4
FOLDERS = ("upper", "vowels", "reverse")
"""Of the demo: versions 1 and 2, and the one that is registered by hand."""


class OurConsole:
    name = "Adaptry"

    def __init__(self, url: str, night: float) -> None:
        """`night`: a time of its history, in seconds since 1970."""
        self.url = url
        self._night = night

    def visit_first(self, page: Page) -> None:
        page.goto(f"{self.url}/console/#/adapters")
        page.get_by_role("rowheader").first.wait_for()

    def find(self, hand: Hand, adapter: str) -> Effort:
        page = hand.page
        hand.start_at(f"{self.url}/console/#/adapters", page.get_by_role("rowheader").first)
        hand.press("/")
        hand.write(PART)
        return hand.effort(page.get_by_text("10 adapters", exact=True))

    def register(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("link", name="Publish a version"))
        files = sorted((ROOT / "demo" / "adapters" / FOLDERS[2]).iterdir())
        hand.choose_files(page.get_by_label("Files or an archive"), files)
        hand.click(page.get_by_role("button", name="Publish", exact=True))
        return hand.effort(page.get_by_role("heading", name=f"{adapter}:3"))

    def promote(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("button", name=f"Details of {adapter}:2"))
        hand.click(page.get_by_role("button", name="Promote …"))
        hand.click(page.get_by_role("dialog").get_by_role("button", name="Promote", exact=True))
        return hand.effort(page.get_by_text(f"{adapter}@{ALIAS} means version 2"))

    def roll_back(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("button", name="Roll back 2 → 1"))
        hand.click(page.get_by_role("dialog").get_by_role("button", name="Roll back", exact=True))
        return hand.effort(page.get_by_text(f"{adapter}@{ALIAS} means version 1 again"))

    def edit(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("button", name=f"Edit {adapter}", exact=True))
        dialog = page.get_by_role("dialog")
        hand.click(dialog.get_by_label("Description"))
        hand.write(DESCRIPTION)
        hand.press("Tab")
        hand.write("crm")
        hand.click(dialog.get_by_role("button", name="Save"))
        dialog.wait_for(state="detached")
        return hand.effort(page.locator("section p.lead", has_text=DESCRIPTION))

    def compare(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("button", name=f"Details of {adapter}:2"))
        hand.click(page.get_by_role("link", name="Compare"))
        return hand.effort(page.get_by_role("row", name=re.compile("^Rank differs 4 8")))

    def retire(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("button", name=f"Details of {adapter}:2"))
        hand.click(page.get_by_role("button", name="Retire …"))
        hand.click(page.get_by_role("dialog").get_by_role("button", name="Retire", exact=True))
        return hand.effort(page.get_by_text(f"{adapter}:2: retire done"))

    def see_changes(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("main").get_by_role("link", name="Events"))
        return hand.effort(page.locator(".event", has_text="alias.moved").first)

    def look_back(self, hand: Hand, adapter: str) -> Effort:
        """Of a recorded night, whose hour of thrashing stands for 02:50: the plot shows it."""
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("link", name="History"))
        plot = page.get_by_role("img", name=re.compile("lookups"))
        plot.wait_for()
        slider = page.get_by_role("slider", name="Time")
        since, until = (float(slider.get_attribute(end) or 0) for end in ("min", "max"))
        box = plot.bounding_box()
        assert box is not None
        share = (self._night * 1000 - since) / (until - since)
        hand.click_at(plot, share * box["width"], box["height"] / 2)
        evicted = page.get_by_label("Decisions, oldest first").locator('[data-kind="evicted"]')
        evicted.first.wait_for()
        slots = page.get_by_role("list", name="GPU slots").locator("li .ref")
        return hand.effort(slots.first)

    def _open(self, hand: Hand, adapter: str) -> Page:
        ready = hand.page.get_by_role("button", name=f"Details of {adapter}:2")
        hand.start_at(f"{self.url}/console/#/adapters/{adapter}", ready)
        return hand.page


@contextmanager
def launched(folder: Path) -> Iterator[ServedDemo]:
    """It starts while others do."""
    served = ServedDemo(folder)
    served.forks = False
    try:
        served.launch()
        yield served
    finally:
        served.stop()


def our_console(served: ServedDemo, turns: int) -> OurConsole:
    """Once it has started, and is filled."""
    served.wait_until(served.is_ready, START_SECONDS)
    _fill(served, turns)
    with ThreadPoolExecutor(1) as other:  # Playwright has a loop in this thread
        night = other.submit(lambda: asyncio.run(_record_night(served))).result()
    return OurConsole(served.url(), night)


async def _record_night(served: ServedDemo) -> float:
    """A time in the hour in which the recorded night's cache thrashed."""
    night = Night()
    night.now -= NIGHT_HOURS_BEFORE * 3600  # it has ended before the server began its own history
    url = f"sqlite+aiosqlite:///{served.folder}/registry.db"
    database = Database(url)
    server = default_server_id(url, int(served.url().rpartition(":")[2]))
    await record_hours(database, server, night)
    await database.close()
    return night.now + THRASHING_SECONDS


def _fill(served: ServedDemo, turns: int) -> None:
    with Client(served.url()) as client:
        for turn in range(turns):
            for source in FOLDERS[:2]:
                client.versions.register(name_of(turn), str(ROOT / "demo" / "adapters" / source))
    rows = [
        {"name": f"customer-{n:06d}", "tags": [], "user_metadata": {}, "created_at": now()}
        for n in range(MANY)
    ]
    engine = create_engine(f"sqlite:///{served.folder}/registry.db")
    with engine.begin() as connection:
        connection.execute(insert(Adapter), rows)
    engine.dispose()
