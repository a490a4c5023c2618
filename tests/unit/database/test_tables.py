"""Rows as they are made: defaults of their own, and what is written and tracked is what was set."""

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from registry.models import Adapter, Event, EventKind
from registry.models.job import Job


def test_each_row_has_defaults_of_its_own() -> None:
    one, other = Adapter(name="a"), Adapter(name="b", tags=["x"])
    one.tags.append("y")
    assert (other.tags, Adapter(name="c").tags) == (["x"], [])
    assert one.created_at <= other.created_at
    first, second = (Event(actor="me", kind=EventKind.ALIAS_MOVED) for _ in range(2))
    assert first.uid != second.uid


def test_what_is_set_before_and_after_the_first_write_is_written() -> None:
    engine = create_engine("sqlite://")
    Job.metadata.create_all(engine, [Job.metadata.tables["job"]])
    with Session(engine, expire_on_commit=False) as session:
        job = Job(adapter="a", source="upload", request={}, workspace="w", state="x", created_by="")
        job.state = "queued"
        session.add(job)
        session.flush()
        job.state, job.bytes_total = "running", 7
        session.commit()
        session.expunge_all()
        found = session.get(Job, job.id)
        assert found is not None
        assert (found.state, found.bytes_total, found.step, found.attempts) == (
            "running",
            7,
            None,
            0,
        )
        assert found.created_at == job.created_at
    engine.dispose()
