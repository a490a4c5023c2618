"""What proves that files are damaged, and what says only that the store is away."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import DatabaseUnavailable, StoreUnavailable
from registry.lifecycle.condemnation import find_damage
from registry.storage import integrity, readiness
from registry.storage.availability import FilesGone, StoreAway, StoreEmpty, check_answers
from registry.storage.integrity import FilesChanged, manifest_digest, verify, write_fingerprint
from registry.storage.readiness import StoreReadiness


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    (made / "adapters").mkdir(parents=True)
    return made


def add(store: Path, content: bytes = b"weights") -> Path:
    """Files of a version, sealed as the registry does."""
    made = store / "adapters" / "ab" / "unnamed"
    made.mkdir(parents=True)
    (made / "adapter_config.json").write_bytes(b"{}")
    (made / "adapter_model.safetensors").write_bytes(content)
    folder = made.rename(made.with_name(manifest_digest(map(integrity.hash_file, made.iterdir()))))
    write_fingerprint(folder)
    return folder


def move_store(folder: Path) -> None:
    store = folder.parents[2]
    store.rename(store.with_name("away"))


def mount_an_empty_place(folder: Path) -> None:
    move_store(folder)
    (folder.parents[1]).mkdir(parents=True)


def loop(folder: Path) -> None:
    adapters = folder.parents[1]
    adapters.rename(adapters.with_name("away"))
    adapters.symlink_to(adapters)


def replace_by_a_file(folder: Path) -> None:
    move_store(folder)
    folder.parents[2].write_bytes(b"")


def remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def cut(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"wei")


def remove_one(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


AWAY = (move_store, mount_an_empty_place, loop, replace_by_a_file)


@pytest.mark.parametrize("harm", AWAY)
def test_a_store_that_is_away_proves_nothing(store: Path, harm: Callable[[Path], None]) -> None:
    folder = add(store)
    harm(folder)
    with pytest.raises(StoreAway):
        verify(folder, folder.name)
    assert find_damage(folder, folder.name) is None


@pytest.mark.parametrize("harm", [remove, empty])
def test_files_that_are_missing_prove_nothing(store: Path, harm: Callable[[Path], None]) -> None:
    folder = add(store)
    harm(folder)
    with pytest.raises(FilesGone):
        verify(folder, folder.name)
    assert find_damage(folder, folder.name) is None


@pytest.mark.parametrize("harm", [cut, remove_one])
def test_files_that_differ_are_proof(store: Path, harm: Callable[[Path], None]) -> None:
    folder = add(store)
    harm(folder)
    with pytest.raises(FilesChanged):
        verify(folder, folder.name)
    assert "digest" in str(find_damage(folder, folder.name))


def test_files_that_are_being_written_prove_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add(store)
    cut(folder)
    hash_file = integrity.hash_file

    def hash_and_write(file: Path) -> tuple[str, int, str]:
        found = hash_file(file)
        with file.open("ab") as more:
            more.write(b"ghts")
        return found

    monkeypatch.setattr(integrity, "hash_file", hash_and_write)
    with pytest.raises(OSError, match="being written"):
        verify(folder, folder.name)
    assert find_damage(folder, folder.name) is None


def test_a_store_that_goes_away_while_it_is_read_proves_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was read of it by then."""
    folder = add(store)
    cut(folder)
    at_rest = integrity.fingerprint(folder)
    monkeypatch.setattr(integrity, "fingerprint", lambda folder: at_rest)
    hash_file = integrity.hash_file

    def hash_and_move(file: Path) -> tuple[str, int, str]:
        found = hash_file(file)
        if file.suffix == ".safetensors":
            move_store(folder)
        return found

    monkeypatch.setattr(integrity, "hash_file", hash_and_move)
    assert find_damage(folder, folder.name) is None


def test_proof_does_not_rely_on_a_fingerprint(store: Path) -> None:
    """As when a disk returns other bytes than were written: nothing else about the file changes."""
    folder = add(store)
    cut(folder)
    write_fingerprint(folder)
    verify(folder, folder.name)
    assert find_damage(folder, folder.name) is not None


# ---- readiness ----------------------------------------------------------------------------


async def expected() -> bool:
    return True


def ready(store: Path, *, timeout_seconds: float = 2.0) -> StoreReadiness:
    return StoreReadiness(
        store / "adapters", expected, keep_seconds=0, timeout_seconds=timeout_seconds
    )


@pytest.mark.parametrize("harm", AWAY)
async def test_a_store_that_is_away_is_not_ready(store: Path, harm: Callable[[Path], None]) -> None:
    folder = add(store)
    readiness = ready(store)
    await readiness.check()
    harm(folder)
    with pytest.raises(StoreUnavailable, match=r"can't be listed|is empty"):
        await readiness.check()


async def test_a_new_registry_is_ready_with_an_empty_store(store: Path) -> None:
    async def nothing_is() -> bool:
        return False

    async def nobody_knows() -> bool:
        raise DatabaseUnavailable("on purpose")

    for is_expected in (nothing_is, nobody_knows):
        await StoreReadiness(store / "adapters", is_expected).check()
    with pytest.raises(StoreUnavailable, match="is empty"):
        await ready(store).check()


async def test_a_store_that_hangs_is_not_ready_in_bounded_time(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store)
    answers, looks = threading.Event(), []

    def hang(adapters: Path) -> None:
        looks.append(adapters)
        answers.wait(30)

    monkeypatch.setattr(readiness, "check_answers", hang)
    subject = ready(store, timeout_seconds=0.05)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"does not answer within 0\.05 s"):
            await asyncio.wait_for(subject.check(), 10)
    assert len(looks) == 1, "one thread hangs, however often it is asked"
    answers.set()
    patient = ready(store, timeout_seconds=10)
    patient._look = subject._look
    await patient.check()


async def test_an_answer_is_kept_briefly(store: Path) -> None:
    folder, now = add(store), [0.0]
    subject = StoreReadiness(store / "adapters", expected, keep_seconds=2, clock=lambda: now[0])
    await subject.check()
    move_store(folder)
    now[0] = 1.9
    await subject.check()
    now[0] = 2.0
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await subject.check()


def test_an_empty_store_is_told_from_one_that_can_not_be_listed(store: Path) -> None:
    with pytest.raises(StoreEmpty):
        check_answers(store / "adapters")
    with pytest.raises(StoreAway, match="No such file"):
        check_answers(store / "nowhere")
