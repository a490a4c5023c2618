"""The store: what comes in is copied whole, kept by its content, or leaves no trace."""

import asyncio
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.errors import (
    InvalidAdapter,
    SourceNotAllowed,
    SourceNotFound,
    SourceTooLarge,
    StoreUnavailable,
)
from registry.errors.defects import Defect
from registry.ingest.pipeline import (
    close_workspace,
    create_workspace,
    inspect,
    keep,
    new_workspace,
)
from registry.inspection.inspector import Inspection
from registry.sources.base import Progress, Source
from registry.sources.local import LocalFile, LocalSource
from registry.storage.integrity import verify
from registry.storage.store import ArtifactStore, StoredArtifact, storage_errors
from registry.storage.workspace import Workspace

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_BYTES = 1000
NOBODY = 65534
SEEN = Inspection(
    rank=4,
    alpha=8.0,
    target_modules=("q_proj",),
    dtype="float32",
    size_bytes=99,
    base_model=None,
    peft_config={},
    shapes_checked=True,
)


def accept(folder: Path) -> Inspection:
    """Inspection has tests of its own."""
    return SEEN


def refuse(folder: Path) -> Inspection:
    raise InvalidAdapter(Defect.NOT_FINITE, "no")


Check = Callable[[Path], Inspection]


def ingest(store: ArtifactStore, source: str | Source, check: Check) -> StoredArtifact:
    """As the service does, but for the row."""

    async def work() -> StoredArtifact:
        origin = await store.local(source) if isinstance(source, str) else source
        async with new_workspace(store) as workspace:
            with storage_errors():
                folder = workspace.empty_folder()
                fetched = await origin.fetch(folder, store.limits, Progress())
            inspection = await inspect(folder, check)
            async with keep(store, folder, fetched, inspection) as artifact:
                return artifact

    return asyncio.run(work())


class Shop:
    """A store, a folder that may be registered from, and one that may not."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.sources = folder / "sources"
        self.outside = folder / "outside"
        self.sources.mkdir()
        self.outside.mkdir()
        self.store = self.another()

    def another(self) -> ArtifactStore:
        store = ArtifactStore(self.root, source_roots=[self.sources], max_bytes=MAX_BYTES)
        store.open()
        return store

    def adapter(self, name: str, weights: bytes = b"weights", config: str = "{}") -> Path:
        return write(self.sources / name, {CONFIG: config.encode(), WEIGHTS: weights})

    def ingest(self, source: Path | str) -> str:
        return ingest(self.store, str(source), accept).digest

    def stored_files(self) -> dict[str, bytes]:
        """Every file in the store by its path there, except fingerprints and spare ones."""
        files = sorted(file for file in self.root.rglob("*") if not file.is_dir())
        files = [file for file in files if file.parent.name not in ("seals", "spare")]
        return {str(file.relative_to(self.root)): file.read_bytes() for file in files}

    def on_their_way(self) -> list[Path]:
        return list((self.root / "quarantine").iterdir())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    assert shop.on_their_way() == [], "nothing half done may stay"


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


# ---- what is kept ------------------------------------------------------------------------


def test_the_files_are_copied_under_their_digest(shop: Shop) -> None:
    source = shop.adapter("a", b"\0" * 300, config='{"r": 4}')
    stored = ingest(shop.store, str(source), accept)
    assert stored.inspection is SEEN
    assert stored.size_bytes == SEEN.size_bytes
    assert stored.path == shop.store.path_of(stored.digest)
    assert stored.path == shop.root / "adapters" / stored.digest[:2] / stored.digest
    assert len(stored.digest) == 64
    assert {file.name: file.read_bytes() for file in stored.path.iterdir()} == {
        CONFIG: b'{"r": 4}',
        WEIGHTS: b"\0" * 300,
    }
    for file in stored.path.iterdir():
        assert file.stat().st_mode & 0o777 == 0o444


def test_inspection_sees_the_copy_and_not_the_source(shop: Shop) -> None:
    source = shop.adapter("a")
    seen: dict[str, bytes] = {}

    def look(folder: Path) -> Inspection:
        (source / WEIGHTS).write_bytes(b"changed meanwhile")
        assert folder.is_relative_to(shop.root)
        seen.update({file.name: file.read_bytes() for file in folder.iterdir()})
        return SEEN

    stored = ingest(shop.store, str(source), look)
    assert seen == {CONFIG: b"{}", WEIGHTS: b"weights"}
    assert (stored.path / WEIGHTS).read_bytes() == b"weights"


def test_what_happens_to_the_source_later_is_not_seen_in_the_store(shop: Shop) -> None:
    source = shop.adapter("a")
    shop.ingest(source)
    before = shop.stored_files()
    with (source / WEIGHTS).open("r+b") as file:
        file.write(b"WEIGHTS")
    assert shop.stored_files() == before
    shutil.rmtree(source)
    assert shop.stored_files() == before


def test_only_the_adapters_own_files_are_kept(shop: Shop) -> None:
    bare = shop.ingest(shop.adapter("bare"))
    source = shop.adapter("full")
    for name in ("README.md", "optimizer.pt", PICKLE):
        (source / name).write_bytes(b"x" * MAX_BYTES)
    (source / "checkpoint-1").mkdir()
    (source / "link").symlink_to("/etc/passwd")
    assert shop.ingest(source) == bare
    assert {Path(name).name for name in shop.stored_files()} == {CONFIG, WEIGHTS}


def test_a_pickle_alone_is_shown_to_inspection_so_that_it_can_say_so(shop: Shop) -> None:
    source = write(shop.sources / "old", {CONFIG: b"{}", PICKLE: b"pickled"})
    seen: list[str] = []

    def look(folder: Path) -> Inspection:
        seen.extend(sorted(file.name for file in folder.iterdir()))
        return refuse(folder)

    with pytest.raises(InvalidAdapter):
        ingest(shop.store, str(source), look)
    assert seen == sorted([CONFIG, PICKLE])
    assert shop.stored_files() == {}


# ---- the digest --------------------------------------------------------------------------


def test_the_same_content_is_the_same_folder_and_is_written_once(shop: Shop) -> None:
    first = ingest(shop.store, str(shop.adapter("a")), accept)
    written = {file: file.stat().st_ino for file in first.path.iterdir()}
    again = ingest(shop.store, str(shop.adapter("b")), accept)
    assert (again.digest, again.path) == (first.digest, first.path)
    assert {file: file.stat().st_ino for file in first.path.iterdir()} == written
    assert len(shop.stored_files()) == 2


@pytest.mark.parametrize("harm", ["change", "cut", "add", "empty"])
def test_what_is_damaged_is_replaced_by_the_same_content(shop: Shop, harm: str) -> None:
    """It was sealed as it lay there: the next load trusted that."""
    first = ingest(shop.store, str(shop.adapter("a")), accept)
    (file,) = (file for file in first.path.iterdir() if file.name == WEIGHTS)
    file.chmod(0o600)
    first.path.chmod(0o700)
    if harm == "add":
        (first.path / "more").write_bytes(b"x")
    elif harm == "empty":
        for each in first.path.iterdir():
            each.unlink()
    else:
        file.write_bytes(b"Weights" if harm == "change" else b"weight")
    again = ingest(shop.store, str(shop.adapter("b")), accept)
    assert again.path == first.path
    verify(again.path, again.digest, trust_fingerprint=False)
    assert sorted(file.name for file in again.path.iterdir()) == sorted((CONFIG, WEIGHTS))


def test_the_digest_is_of_content_alone(shop: Shop, tmp_path: Path) -> None:
    digest = shop.ingest(shop.adapter("a"))
    turned = write(shop.sources / "deep" / "other", {WEIGHTS: b"weights", CONFIG: b"{}"})
    os.utime(turned / WEIGHTS, (1, 1))
    (turned / CONFIG).chmod(0o600)
    assert shop.ingest(turned) == digest
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Shop(tmp_path / "elsewhere")
    assert elsewhere.ingest(elsewhere.adapter("z")) == digest


def test_the_digest_is_the_same_for_ever(shop: Shop) -> None:
    assert (
        shop.ingest(shop.adapter("a"))
        == "f93e4c562d9933e6da3405e99d69c25c22e7adbd7995ec90682a1c01467d7d66"
    ), "rows in databases hold it: a change needs a migration"


@pytest.mark.parametrize(
    "files",
    [
        {CONFIG: b"{}", WEIGHTS: b"weightS"},
        {CONFIG: b"{}", WEIGHTS: b"weights\0"},
        {CONFIG: b"{} ", WEIGHTS: b"weights"},
        {CONFIG: b"weights", WEIGHTS: b"{}"},
        {CONFIG: b"", WEIGHTS: b"{}weights"},
        {WEIGHTS: b"weights"},
        {CONFIG: b"{}"},
        {CONFIG: b"{}", PICKLE: b"weights"},
        {},
    ],
    ids=str,
)
def test_another_byte_is_another_digest(shop: Shop, files: dict[str, bytes]) -> None:
    digest = shop.ingest(shop.adapter("a"))
    assert shop.ingest(write(shop.sources / "b", files)) != digest


def test_many_concurrent_registrations_agree_on_one_folder(shop: Shop) -> None:
    sources = [shop.adapter(f"a{n}") for n in range(8)]
    together = threading.Barrier(len(sources))

    def check(folder: Path) -> Inspection:
        together.wait(30)
        return SEEN

    with ThreadPoolExecutor(len(sources)) as threads:
        stored = list(threads.map(lambda s: ingest(shop.store, str(s), check), sources))
    assert len({artifact.path for artifact in stored}) == 1
    assert len(shop.stored_files()) == 2


# ---- where from --------------------------------------------------------------------------


def test_a_relative_source_is_looked_up_in_the_source_roots(shop: Shop) -> None:
    digest = shop.ingest(shop.adapter("team/a"))
    for source in ("team/a", "./team/a/", "team/../team/a", f"../{shop.sources.name}/team/a"):
        assert shop.ingest(source) == digest


def test_each_of_several_source_roots_is_looked_into(shop: Shop) -> None:
    write(shop.outside / "a", {CONFIG: b"{}", WEIGHTS: b"weights"})
    roots = [shop.sources / "none yet", shop.sources, shop.outside]
    store = ArtifactStore(shop.root, source_roots=roots, max_bytes=MAX_BYTES)
    store.open()
    relative = ingest(store, "a", accept)
    assert ingest(store, str(shop.outside / "a"), accept) == relative


def test_links_that_stay_within_the_source_roots_are_followed(shop: Shop) -> None:
    digest = shop.ingest(shop.adapter("a"))
    (shop.sources / "latest").symlink_to(shop.sources / "a")
    assert shop.ingest(shop.sources / "latest") == digest
    (shop.outside / "way in").symlink_to(shop.sources)
    assert shop.ingest(shop.outside / "way in" / "a") == digest


def test_a_source_root_may_itself_be_a_link(shop: Shop, tmp_path: Path) -> None:
    shop.adapter("a")
    (tmp_path / "mount").symlink_to(shop.sources)
    store = ArtifactStore(shop.root, source_roots=[tmp_path / "mount"], max_bytes=MAX_BYTES)
    for source in (tmp_path / "mount" / "a", shop.sources / "a", "a"):
        assert ingest(store, str(source), accept).digest


@pytest.mark.parametrize(
    "source",
    [
        "{outside}/secret",
        "../outside/secret",
        "{sources}/../outside/secret",
        "a/../../outside/secret",
        "{sources}-twin/secret",
        "link/secret",
        "linked",
        "{sources}/link/secret",
        "/",
        "/etc",
        "..",
        "/proc/self/cwd",
    ],
)
def test_a_folder_outside_the_roots_is_not_allowed(shop: Shop, source: str) -> None:
    shop.adapter("a")
    files = {CONFIG: b"{}", WEIGHTS: b"secret"}
    secret = write(shop.outside / "secret", files)
    write(shop.sources.with_name("sources-twin") / "secret", files)
    (shop.sources / "link").symlink_to(shop.outside)
    (shop.sources / "linked").symlink_to(secret)
    with pytest.raises(SourceNotAllowed):
        shop.ingest(source.format(outside=shop.outside, sources=shop.sources))
    assert shop.stored_files() == {}


def test_without_source_roots_nothing_is_allowed(shop: Shop) -> None:
    store = ArtifactStore(shop.root, source_roots=[], max_bytes=MAX_BYTES)
    with pytest.raises(SourceNotAllowed):
        ingest(store, str(shop.adapter("a")), accept)


@pytest.mark.parametrize(
    "source",
    ["none", "a/none", f"a/{CONFIG}", "x" * 5000, "a\0b", "\0", "a\ud800b", "dangling", "loop"],
    ids=ascii,
)
def test_what_is_no_folder_is_not_found(shop: Shop, source: str) -> None:
    shop.adapter("a")
    (shop.sources / "dangling").symlink_to(shop.sources / "nowhere")
    (shop.sources / "loop").symlink_to(shop.sources / "loop")
    with pytest.raises(SourceNotFound) as caught:
        shop.ingest(source)
    caught.value.detail.encode()  # it is sent as UTF-8
    with pytest.raises(SourceNotFound):
        shop.ingest(f"{shop.sources}/{source}")
    assert shop.stored_files() == {}


# ---- what may not come in ----------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("kind", ["link out", "dangling link", "folder", "pipe"])
def test_what_is_no_regular_file_is_unsafe(shop: Shop, name: str, kind: str) -> None:
    file = shop.adapter("a") / name
    file.unlink()
    make: dict[str, Callable[[], object]] = {
        "link out": lambda: file.symlink_to("/etc/passwd"),
        "dangling link": lambda: file.symlink_to("nowhere"),
        "folder": file.mkdir,
        "pipe": lambda: os.mkfifo(file),
    }
    make[kind]()
    with pytest.raises(InvalidAdapter) as caught:
        shop.ingest(file.parent)
    assert caught.value.code == "unsafe_file"
    assert shop.stored_files() == {}


def test_the_limit_is_for_all_files_together(shop: Shop) -> None:
    fits = shop.adapter("fits", b"x" * (MAX_BYTES - 2), config="{}")
    shop.ingest(fits)
    before = shop.stored_files()
    too_large = shop.adapter("too-large", b"x" * (MAX_BYTES - 1), config="{}")
    with pytest.raises(SourceTooLarge):
        shop.ingest(too_large)
    assert shop.stored_files() == before


def test_a_refused_adapter_leaves_nothing(shop: Shop) -> None:
    with pytest.raises(InvalidAdapter):
        ingest(shop.store, str(shop.adapter("a")), refuse)
    assert shop.stored_files() == {}


def test_whatever_else_inspection_raises_leaves_nothing(shop: Shop) -> None:
    def break_off(folder: Path) -> Inspection:
        raise KeyboardInterrupt

    def disk_is_lost(folder: Path) -> Inspection:
        raise OSError(5, "Input/output error")

    source = str(shop.adapter("a"))
    with pytest.raises(KeyboardInterrupt):
        ingest(shop.store, source, break_off)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        ingest(shop.store, source, disk_is_lost)
    assert shop.stored_files() == {}


# ---- a source that changes while it is read ----------------------------------------------


class Hasty(LocalSource):
    """Lets something happen between the look at the files and the copy."""

    def __init__(self, folder: Path, happens: Callable[[Path], object]) -> None:
        super().__init__(folder)
        self._weights = folder / WEIGHTS
        self._happens = happens

    def _files(self) -> list[LocalFile]:
        files = super()._files()
        self._happens(self._weights)
        return files


def test_a_file_that_vanishes_is_not_found(shop: Shop) -> None:
    source = Hasty(shop.adapter("a"), lambda weights: weights.unlink())
    with pytest.raises(SourceNotFound, match="vanished"):
        ingest(shop.store, source, accept)
    assert shop.stored_files() == {}


def test_a_folder_that_vanishes_is_not_found(shop: Shop) -> None:
    source = Hasty(shop.adapter("a"), lambda weights: shutil.rmtree(weights.parent))
    with pytest.raises(SourceNotFound, match="vanished"):
        ingest(shop.store, source, accept)
    assert shop.stored_files() == {}


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "become",
    [lambda file: file.symlink_to("/etc/passwd"), os.mkfifo, lambda file: file.mkdir()],
    ids=["link", "pipe", "folder"],
)
def test_a_file_that_becomes_something_else_is_unsafe(
    shop: Shop, become: Callable[[Path], object]
) -> None:
    def replace(weights: Path) -> None:
        weights.unlink()
        become(weights)

    with pytest.raises(InvalidAdapter) as caught:
        ingest(shop.store, Hasty(shop.adapter("a"), replace), accept)
    assert caught.value.code == "unsafe_file"
    assert shop.stored_files() == {}


def test_a_file_that_grows_beyond_the_limit_is_too_large(shop: Shop) -> None:
    source = Hasty(shop.adapter("a"), lambda weights: weights.write_bytes(b"x" * (MAX_BYTES - 1)))
    with pytest.raises(SourceTooLarge):
        ingest(shop.store, source, accept)
    assert shop.stored_files() == {}


@pytest.fixture
def nobodys_shop() -> Iterator[Shop]:
    """As an ordinary user, who is bound by file modes; root is not."""
    with tempfile.TemporaryDirectory() as folder:
        am_root = os.geteuid() == 0
        if am_root:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Shop(Path(folder))
        finally:
            if am_root:
                os.seteuid(0)


def test_a_file_that_the_server_may_not_read_is_unreadable(nobodys_shop: Shop) -> None:
    source = nobodys_shop.adapter("a")
    for locked in (source / WEIGHTS, source / CONFIG, source):
        mode = locked.stat().st_mode
        locked.chmod(0)
        with pytest.raises(InvalidAdapter) as caught:
            nobodys_shop.ingest(source)
        locked.chmod(mode)
        assert caught.value.code == "unreadable_file"
        assert nobodys_shop.stored_files() == {}
    assert nobodys_shop.on_their_way() == []
    assert nobodys_shop.ingest(source)


# ---- the store itself --------------------------------------------------------------------


def test_a_store_that_can_not_be_written_is_unavailable(nobodys_shop: Shop) -> None:
    nobodys_shop.root.chmod(0o500)
    for folder in (nobodys_shop.root / name for name in ("adapters", "quarantine", "arriving")):
        source = nobodys_shop.adapter(folder.name, weights=folder.name.encode())
        folder.chmod(0o500)
        with pytest.raises(StoreUnavailable):
            nobodys_shop.ingest(source)
        folder.chmod(0o700)
    nobodys_shop.root.chmod(0o700)
    assert nobodys_shop.on_their_way() == []
    assert nobodys_shop.stored_files() == {}


def test_a_store_where_a_file_is_in_the_way_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(StoreUnavailable):
            ArtifactStore(root, source_roots=[], max_bytes=MAX_BYTES).open()


def test_a_store_that_went_away_is_unavailable_and_comes_back_by_opening(shop: Shop) -> None:
    source = shop.adapter("a")
    digest = shop.ingest(source)
    shutil.rmtree(shop.root)
    with pytest.raises(StoreUnavailable):
        shop.ingest(source)
    shop.store.open()
    assert shop.ingest(source) == digest


def test_opening_again_keeps_what_is_there(shop: Shop) -> None:
    source = shop.adapter("a")
    digest = shop.ingest(source)
    keep = shop.stored_files()
    again = shop.another()
    assert again.path_of(digest) == shop.store.path_of(digest)
    assert shop.stored_files() == keep


def test_a_workspace_whose_lock_the_cleanup_takes_first_gets_another_name(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleanup = shop.another()
    locked: list[Workspace] = []
    flock = fcntl.flock

    def flock_after_cleanup(descriptor: int, how: int) -> None:
        """The lock file was just created: the cleanup lists and locks it before its owner does."""
        monkeypatch.setattr(fcntl, "flock", flock)
        locked.extend(filter(None, map(cleanup.workspace, cleanup.workspaces())))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock_after_cleanup)
    assert shop.ingest(shop.adapter("a"))
    assert len(locked) == 1
    locked[0].close()


def test_a_folder_that_may_be_new_is_on_the_disk_before_files_are_in_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process may have made it, each has to see to that itself."""
    synced: list[int] = []
    sync, store, other = os.fsync, shop.store, shop.another()

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def syncs_all(into: ArtifactStore, number: int) -> bool:
        synced.clear()
        folder = write(shop.root / f"new-{number}", {CONFIG: b"{}"})
        into.add(folder, f"ab{number:062}").release()
        return store.adapters.stat().st_ino in synced

    monkeypatch.setattr(os, "fsync", note)
    adds = ((store, True), (store, False), (other, True), (other, False))
    for number, (into, expected) in enumerate(adds):
        assert syncs_all(into, number) is expected
    shutil.rmtree(store.adapters / "ab")
    assert syncs_all(store, 9)


class SweptStore(ArtifactStore):
    """Its cleanup finds the first new lock's file, and locks it before its creator does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, source_roots=[], max_bytes=MAX_BYTES)
        self.names: list[str] = []

    def workspace(self, name: str, *, for_upload: bool = False) -> Workspace | None:
        self.names.append(name)
        if len(self.names) > 1:
            return super().workspace(name, for_upload=for_upload)
        cleanup = super().workspace(name)
        assert cleanup is not None
        try:
            return super().workspace(name, for_upload=for_upload)
        finally:
            cleanup.close()


@pytest.mark.parametrize("for_upload", [True, False])
def test_a_workspace_that_the_cleanup_locked_first_is_replaced_by_another(
    shop: Shop, for_upload: bool
) -> None:
    store = SweptStore(shop.root)
    store.open()

    async def work() -> bool:
        workspace = await create_workspace(store, for_upload=for_upload)
        try:
            return workspace.received.is_dir()
        finally:
            await close_workspace(workspace)

    assert asyncio.run(work()) is for_upload
    assert len(set(store.names)) == 2
