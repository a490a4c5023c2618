"""Hand of a user in a browser: counts its clicks and keys, and times what they lead to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page

WAIT_MS = 60_000


@dataclass(frozen=True)
class Effort:
    """What one task took. The seconds are the pages' own: the hand itself needs no time."""

    clicks: int
    keys: int
    seconds: float


class Hand:
    def __init__(self, page: Page) -> None:
        self.page = page
        page.set_default_timeout(WAIT_MS)
        self._clicks = self._keys = 0
        self._began: float | None = None

    def start_at(self, address: str, ready: Locator) -> None:
        """Where a task begins. Getting there is no part of it."""
        self.page.goto("about:blank")  # the same address again is a new page too
        self.page.goto(address)
        ready.wait_for()
        self._clicks = self._keys = 0
        self._began = None

    def click(self, what: Locator) -> None:
        self._begin()
        what.click()
        self._clicks += 1

    def click_at(self, what: Locator, x: float, y: float) -> None:
        """In pixels from its corner."""
        self._begin()
        what.click(position={"x": x, "y": y})
        self._clicks += 1

    def press(self, key: str) -> None:
        self._begin()
        self.page.keyboard.press(key)
        self._keys += 1

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self._begin()
        self.page.keyboard.type(text)
        self._keys += len(text)

    def choose_files(self, opener: Locator, files: Sequence[Path]) -> None:
        """The click that opens the system's own dialog; what is done in that isn't counted."""
        self._begin()
        with self.page.expect_file_chooser() as chooser:
            opener.click()
        chooser.value.set_files([str(path) for path in files])
        self._clicks += 1

    def effort(self, result: Locator) -> Effort:
        """Of the task, once its result can be seen."""
        result.wait_for()
        assert self._began is not None, "nothing was done"
        return Effort(self._clicks, self._keys, time.perf_counter() - self._began)

    def _begin(self) -> None:
        if self._began is None:
            self._began = time.perf_counter()
