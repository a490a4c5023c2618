"""Fetches adapters from where a test has put them, each time into a new folder."""

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources

LOOPBACK = EgressGuard(allowed=(ip_network("127.0.0.1/32"),))


class Fetch:
    """`limits` may be changed before a call; `progress` is that of the last one."""

    def __init__(
        self, folder: Path, max_bytes: int, sources: Callable[[EgressGuard], RemoteSources]
    ) -> None:
        self._folder = folder
        self._sources = sources
        self._count = 0
        self.limits = FetchLimits(max_bytes)
        self.progress = Progress()

    async def __call__(
        self, url: str, guard: EgressGuard = LOOPBACK
    ) -> tuple[FetchedSource, dict[str, bytes]]:
        """What was fetched, and the adapter's own files by name."""
        self._count += 1
        into = self._folder / f"into-{self._count}"
        into.mkdir()
        self.progress = Progress()
        _, source = self._sources(guard).open(url)
        fetched = await source.fetch(into, self.limits, self.progress)
        files = (file for file in into.iterdir() if file.is_file())
        return fetched, {file.name: file.read_bytes() for file in files}
