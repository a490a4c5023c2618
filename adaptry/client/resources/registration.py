"""How versions come to be: from a source that the server reads, or from files that are sent."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from adaptry.client.errors import InvalidSource, JobFailed
from adaptry.client.models import JobRead, VersionRead
from adaptry.client.resources.jobs import Jobs, OnJob
from adaptry.client.transport.operations import Group, composed, flow, read
from adaptry.client.transport.requests import (
    FOR_EVER,
    Flow,
    Given,
    Reply,
    Request,
    Route,
    given,
    version_of,
)

S_co = TypeVar("S_co", covariant=True)

ACCEPTED, CREATED = 202, 201
FILES = ("adapter_config.json", "adapter_model.safetensors")
_ROUTE = Route("POST", "/api/v1/adapters/{name}/versions")
_VERSION = Route("GET", "/api/v1/adapters/{name}/versions/{number}")

OnBytes = Callable[[int, int], None]
"""Is told bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Either a version that is there now, or the job that is to make one."""

    version: VersionRead | None
    job: JobRead | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """`is_new` is False if the same content was a version before."""

    version: VersionRead
    is_new: bool


class Registering(Group[S_co]):
    """The part of `client.versions` that makes them."""

    @flow("POST", "/api/v1/adapters/{name}/versions")
    def submit(
        self,
        name: str,
        source: str,
        *,
        description: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        parent: str | None = None,
        training_run: str | None = None,
        dataset: str | None = None,
    ) -> Flow[Submission]:
        """Register what is at a source, and don't wait for a job.

        `source`: a PEFT folder on the server's machine, or a URL: hf://ORG/REPO@REVISION,
        s3://BUCKET/FOLDER, gs://…, https://….
        """
        body = given(
            source=source,
            description=description,
            tags=tags,
            metadata=metadata,
            parent=parent,
            training_run=training_run,
            dataset=dataset,
        )
        return _submission((yield _ROUTE.request(Given({"name": name}, body=body))))

    @flow("POST", "/api/v1/adapters/{name}/versions")
    def upload(
        self,
        name: str,
        source: Path,
        *,
        description: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        parent: str | None = None,
        training_run: str | None = None,
        dataset: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Flow[JobRead]:
        """Send files of this machine, and don't wait for the job that makes a version of them.

        `source`: a folder that PEFT saved, or an archive of one. `on_bytes` is told how much has
        been sent. Raises InvalidSource, and UploadBroken if the server stops
        reading.
        """
        texts = {
            "description": description,
            "parent": parent,
            "training_run": training_run,
            "dataset": dataset,
            "tags": json.dumps(list(tags)) if tags else None,
            "metadata": json.dumps(dict(metadata)) if metadata else None,
        }
        asked = _ROUTE.request(Given({"name": name}))
        with ExitStack() as stack:
            reply = yield Request(
                asked.method,
                asked.path,
                files=[("files", file) for file in _opened(source, on_bytes, stack)],
                fields={key: value for key, value in texts.items() if value is not None},
                patience_seconds=FOR_EVER,
            )
        return read(JobRead, reply.content)

    @composed
    def register(
        self,
        name: str,
        source: str,
        *,
        description: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        parent: str | None = None,
        training_run: str | None = None,
        dataset: str | None = None,
        on_job: OnJob | None = None,
    ) -> Flow[Registration]:
        """Register what is at a source (see `submit`) and wait for the version.

        `on_job` is told of the job as it goes on, if it takes one. Raises JobFailed.
        """
        submitted = yield from Registering.submit.tell(
            self,
            name,
            source,
            description=description,
            tags=tags,
            metadata=metadata,
            parent=parent,
            training_run=training_run,
            dataset=dataset,
        )
        return (yield from _settled(submitted, on_job))

    @composed
    def push(
        self,
        name: str,
        source: Path,
        *,
        description: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        parent: str | None = None,
        training_run: str | None = None,
        dataset: str | None = None,
        on_bytes: OnBytes | None = None,
        on_job: OnJob | None = None,
    ) -> Flow[Registration]:
        """Send files of this machine (see `upload`) and wait for the version. Raises JobFailed."""
        job = yield from Registering.upload.tell(
            self,
            name,
            source,
            description=description,
            tags=tags,
            metadata=metadata,
            parent=parent,
            training_run=training_run,
            dataset=dataset,
            on_bytes=on_bytes,
        )
        return (yield from _settled(Submission(None, job, is_new=False), on_job))


def _submission(reply: Reply) -> Submission:
    if reply.status == ACCEPTED:
        return Submission(None, read(JobRead, reply.content), is_new=False)
    return Submission(read(VersionRead, reply.content), None, is_new=reply.status == CREATED)


def _settled(submitted: Submission, on_job: OnJob | None) -> Flow[Registration]:
    if submitted.job is None:
        assert submitted.version
        return Registration(submitted.version, submitted.is_new)
    job = yield from Jobs.wait.tell(None, submitted.job.id, on_job=on_job)
    if job.version is None:
        raise JobFailed(job)
    reply = yield _VERSION.request(Given(version_of(job.version)))
    return Registration(read(VersionRead, reply.content), bool(job.created))


class _CountedFile:
    """A file for an upload that tells how much of it has been read."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell

    def read(self, size: int = -1) -> bytes:
        try:
            chunk = self._file.read(size)
        except OSError as error:
            raise InvalidSource(f"{self._file.name} can't be read: {error.strerror}") from error
        self._tell(len(chunk))
        return chunk

    def fileno(self) -> int:
        """By which httpx learns its size."""
        return self._file.fileno()


def _opened(
    source: Path, on_bytes: OnBytes | None, stack: ExitStack
) -> Iterator[tuple[str, IO[bytes]]]:
    files = [source] if source.is_file() else [source / name for name in FILES]
    for file in files:
        if not file.is_file():
            raise InvalidSource(
                f"there is no {file}: name a folder that PEFT saved, or an archive of one"
            )
    total = sum(file.stat().st_size for file in files)
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if on_bytes is not None:
            on_bytes(done, total)

    for file in files:
        try:
            opened = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise InvalidSource(f"{file} can't be read: {error.strerror}") from error
        yield file.name, cast("IO[bytes]", _CountedFile(opened, tell))
