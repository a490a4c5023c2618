"""Commit watch: every commit to the file is seen, by whichever process, and nothing else is."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import make_url

from registry.database.commit_watch import CommitWatch, SeenCommits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a registry?.db"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE event (id INTEGER PRIMARY KEY)")
    writer.close()
    return path


def insert(path: Path) -> None:
    writer = sqlite3.connect(path)
    with writer:
        writer.execute("INSERT INTO event DEFAULT VALUES")
    writer.close()


def test_only_a_commit_makes_a_poll_worth_its_while(path: Path) -> None:
    watch = CommitWatch(make_url("sqlite://").set(database=str(path)))
    seen = SeenCommits(watch.version)
    first = seen.unseen()
    assert first is not None
    seen.record(first)
    assert seen.unseen() is None
    reader = sqlite3.connect(path)
    reader.execute("SELECT * FROM event").fetchall()
    reader.close()
    assert seen.unseen() is None
    insert(path)
    newer = seen.unseen()
    assert newer not in (None, first)
    watch.close()


def test_a_commit_during_a_poll_is_left_for_the_next_one(path: Path) -> None:
    watch = CommitWatch(make_url("sqlite://").set(database=str(path)))
    seen = SeenCommits(watch.version)
    began = seen.unseen()
    assert began is not None
    insert(path)
    seen.record(began)
    assert seen.unseen() is not None
    watch.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "postgresql://user@host/base", "sqlite:////nowhere/registry.db"]
)
def test_what_cant_be_told_is_polled(url: str) -> None:
    watch = CommitWatch(make_url(url))
    seen = SeenCommits(watch.version)
    for _ in range(2):
        version = seen.unseen()
        assert version is not None
        seen.record(version)
