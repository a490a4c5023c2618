"""Registration of versions: from a source that the server reads, or from uploaded files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict, TypeVar, Unpack, cast

from adaptry.client.errors import InvalidSource, JobFailed
from adaptry.client.models import JobRead, VersionRead
from adaptry.client.resources.jobs import Jobs, OnJob
from adaptry.client.resources.peft_folder import explain_missing, training_bytes, training_files
from adaptry.client.transport.operations import Resource, composite, parse, request_flow
from adaptry.client.transport.requests import (
    NO_TIMEOUT,
    Parameters,
    Request,
    RequestFlow,
    Response,
    Route,
    parse_version,
    without_none,
)

T_co = TypeVar("T_co", covariant=True)

ACCEPTED, CREATED = 202, 201
FILES = ("adapter_config.json", "adapter_model.safetensors")
_TRAINING_BYTES_HEADER = "x-adaptry-training-bytes"
_ROUTE = Route("POST", "/api/v1/adapters/{name}/versions")
_VERSION = Route("GET", "/api/v1/adapters/{name}/versions/{number}")

OnBytes = Callable[[int, int], None]
"""Called with the bytes sent so far and the total."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Either a version that exists now, or the job that will create one."""

    version: VersionRead | None
    job: JobRead | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """`is_new` is False if a version with the same content existed before."""

    version: VersionRead
    is_new: bool


class VersionDetails(TypedDict, total=False):
    """What a registration may say about its version."""

    description: str | None
    tags: Sequence[str]
    metadata: Mapping[str, Any] | None
    parent: str | None
    training_run: str | None
    dataset: str | None


class VersionRegistration(Resource[T_co]):
    """The part of `client.versions` that creates them."""

    @request_flow("POST", "/api/v1/adapters/{name}/versions")
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
        wait_seconds: float | None = None,
    ) -> RequestFlow[Submission]:
        """Register the adapter at a source; the version, or the job that continues.

        `source`: a PEFT folder on the server's machine, or a URL: hf://ORG/REPO@REVISION,
        s3://BUCKET/FOLDER, gs://…, azure://…, https://…. The server waits `wait_seconds` for the
        version, at most 60; 0: for none; None: for that of a small folder.
        """
        body = without_none(
            source=source,
            description=description,
            tags=tags,
            metadata=metadata,
            parent=parent,
            training_run=training_run,
            dataset=dataset,
        )
        parameters = Parameters({"name": name}, {"wait": wait_seconds}, body)
        return _submission((yield _ROUTE.request(parameters)))

    @request_flow("POST", "/api/v1/adapters/{name}/versions")
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
        wait_seconds: float | None = None,
    ) -> RequestFlow[Submission]:
        """Upload local files; the version, or the job that continues.

        `source`: a folder that PEFT saved, or an archive of one. `on_bytes` is called with the
        bytes sent so far. `wait_seconds` as for `submit`; None: for the version of small files.
        Raises InvalidSource, and UploadBroken if the server stops reading.
        """
        texts = {
            "description": description,
            "parent": parent,
            "training_run": training_run,
            "dataset": dataset,
            "tags": json.dumps(list(tags)) if tags else None,
            "metadata": json.dumps(dict(metadata)) if metadata else None,
        }
        request = _ROUTE.request(Parameters({"name": name}, {"wait": wait_seconds}))
        with ExitStack() as stack:
            response = yield Request(
                request.method,
                request.path,
                request.query,
                files=[("files", file) for file in _open_files(source, on_bytes, stack)],
                fields={key: value for key, value in texts.items() if value is not None},
                headers={_TRAINING_BYTES_HEADER: str(training_bytes(source))},
                timeout_seconds=NO_TIMEOUT,
            )
        return _submission(response)

    @composite
    def register(
        self,
        name: str,
        source: str,
        *,
        on_job: OnJob | None = None,
        **details: Unpack[VersionDetails],
    ) -> RequestFlow[Registration]:
        """Register the adapter at a source (see `submit`) and wait for the version.

        `on_job` is called with the job as it progresses, if there is one. Raises JobFailed.
        """
        submission = yield from VersionRegistration.submit.function(self, name, source, **details)
        return (yield from _wait_for_version(submission, on_job))

    @composite
    def push(
        self,
        name: str,
        source: Path,
        *,
        on_bytes: OnBytes | None = None,
        on_job: OnJob | None = None,
        **details: Unpack[VersionDetails],
    ) -> RequestFlow[Registration]:
        """Upload local files (see `upload`) and wait for the version. Raises JobFailed."""
        submission = yield from VersionRegistration.upload.function(
            self, name, source, on_bytes=on_bytes, **details
        )
        return (yield from _wait_for_version(submission, on_job))


def _submission(response: Response) -> Submission:
    if response.status == ACCEPTED:
        return Submission(None, parse(JobRead, response.content), is_new=False)
    return Submission(parse(VersionRead, response.content), None, is_new=response.status == CREATED)


def _wait_for_version(submission: Submission, on_job: OnJob | None) -> RequestFlow[Registration]:
    if submission.job is None:
        assert submission.version
        return Registration(submission.version, submission.is_new)
    job = yield from Jobs.wait.function(None, submission.job.id, on_job=on_job)
    if job.version is None:
        raise JobFailed(job)
    response = yield _VERSION.request(Parameters(parse_version(job.version)))
    return Registration(parse(VersionRead, response.content), bool(job.created))


class _CountedFile:
    """A file for an upload that reports how much of it has been read."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]) -> None:
        self._file = file
        self._on_read = on_read

    def read(self, size: int = -1) -> bytes:
        try:
            chunk = self._file.read(size)
        except OSError as error:
            raise InvalidSource(f"{self._file.name} can't be read: {error.strerror}") from error
        self._on_read(len(chunk))
        return chunk

    def fileno(self) -> int:
        """Lets httpx find the file's size."""
        return self._file.fileno()


def _open_files(
    source: Path, on_bytes: OnBytes | None, stack: ExitStack
) -> Iterator[tuple[str, IO[bytes]]]:
    files = [source] if source.is_file() else [source / name for name in FILES]
    for file in files:
        if not file.is_file():
            explain_missing(source)
            raise InvalidSource(
                f"there is no {file}: name a folder that PEFT saved, or an archive of one"
            )
    files += training_files(source)
    total = sum(file.stat().st_size for file in files)
    done = 0

    def on_read(more: int) -> None:
        nonlocal done
        done += more
        if on_bytes is not None:
            on_bytes(done, total)

    for file in files:
        try:
            opened = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise InvalidSource(f"{file} can't be read: {error.strerror}") from error
        yield file.name, cast("IO[bytes]", _CountedFile(opened, on_read))
