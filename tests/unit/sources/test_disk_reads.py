"""Reads of disks that may hang: each disk has threads of its own, which its readers share."""

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from registry.sources.disks import mounts
from registry.sources.disks.folders import share_of
from registry.sources.disks.mounts import mount_of
from registry.sources.disks.reads import ReadThreads, Share

ROOTS = (Path("/srv/adapters"), Path("/mnt/nas"))
MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:45 / /mnt/nas rw,relatime - nfs4 nas:/a rw
23 21 0:46 / /mnt/nas\\040two rw,relatime - nfs4 nas:/b rw
24 21 0:47 / /srv/adapters/far rw - fuse.s3 s3 rw
a line that is none
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(mounts, "TABLE", tmp_path / "mountinfo")


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/srv/adapters/bot", "/"),
        ("/", "/"),
        ("/mnt/nas", "/mnt/nas"),
        ("/mnt/nas/bot", "/mnt/nas"),
        ("/mnt/nas two/bot", "/mnt/nas two"),
        ("/mnt/nasty", "/"),
        ("/srv/adapters/far/bot/3", "/srv/adapters/far"),
    ],
)
def test_a_path_is_on_the_disk_that_is_mounted_nearest_above_it(path: str, mount: str) -> None:
    assert mount_of(path) == mount


def test_without_a_table_all_is_one_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TABLE", tmp_path / "none")
    assert mount_of("/mnt/nas/bot") == "/"


def test_the_kernels_own_table_is_read() -> None:
    assert mount_of("/proc/self") == "/proc"


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("path", "tenant", "share"),
    [
        ("/srv/adapters/bot/3", None, Share("/", "/srv/adapters/bot")),
        ("/srv/adapters/far/bot", None, Share("/srv/adapters/far", "/srv/adapters/far")),
        ("/mnt/nas/bot", "acme", Share("/mnt/nas", "acme")),
        ("/srv/adapters/../../mnt/nas/bot", None, Share("/mnt/nas", "/mnt/nas/bot")),
        ("/srv/adapters", None, Share("/", "/srv/adapters")),
        ("/elsewhere/bot", None, Share("/", "/elsewhere")),
    ],
)
def test_a_read_is_its_tenants_or_its_folders(path: str, tenant: str | None, share: Share) -> None:
    assert share_of(Path(path), ROOTS, tenant) == share


class Hung:
    """Reads that wait until they may go on."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.begun = threading.Semaphore(0)
        self.names: list[str] = []

    def read(self, name: str = "") -> str:
        self.names.append(name)
        self.begun.release()
        assert self.goes_on.wait(20)
        return name

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=20)


def done(future: "Future[str]") -> str:
    return future.result(20)


def test_a_disk_that_hangs_leaves_the_threads_of_others() -> None:
    threads, hung = ReadThreads(2), Hung()
    for owner in ("acme", "globex", "initech"):
        threads.submit(Share("/mnt/nas", owner), hung.read)
    hung.wait_for(2)
    assert done(threads.submit(Share("/", "acme"), lambda: "read")) == "read"
    hung.goes_on.set()


def test_an_owner_whose_reads_hang_leaves_threads_to_the_others_of_its_disk() -> None:
    threads, hung = ReadThreads(8), Hung()
    first = [threads.submit(Share("/", "acme"), hung.read) for _ in range(20)]
    hung.wait_for(4)
    second = [threads.submit(Share("/", "globex"), hung.read) for _ in range(20)]
    hung.wait_for(2)
    assert done(threads.submit(Share("/", "initech"), lambda: "read")) == "read"
    assert [future.running() for future in first].count(True) == 4
    assert [future.running() for future in second].count(True) == 2
    hung.goes_on.set()
    assert [done(future) for future in (*first, *second)] == [""] * 40


def test_a_read_that_was_cancelled_while_it_waited_is_forgotten() -> None:
    threads, hung = ReadThreads(1), Hung()
    threads.submit(Share("/", "acme"), hung.read)
    hung.wait_for(1)
    given_up = threads.submit(Share("/", "acme"), lambda: hung.read("given up"))
    assert given_up.cancel()
    last = threads.submit(Share("/", "globex"), lambda: hung.read("last"))
    hung.goes_on.set()
    assert done(last) == "last"
    assert hung.names == ["", "last"]


def test_what_a_read_raises_is_its_result() -> None:
    def fail() -> str:
        raise OSError("the disk is gone")

    threads = ReadThreads(1)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            done(threads.submit(Share("/", "acme"), fail))
