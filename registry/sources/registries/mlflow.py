"""MLflow source: `mlflow:/NAME/3` and `mlflow:/NAME@ALIAS`, a version of a registered model.

Read over MLflow's own REST API, and only from the server of the setting. Its files must be with
that server (`--serve-artifacts`, the default): folders and buckets that it names are not read.
"""

import os
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from registry.errors import (
    InvalidSource,
    RegistryError,
    SourceDenied,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
    SourceUnsupported,
)
from registry.inspection.foreign_folders import explain_missing_files
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.egress_guard import EgressGuard, GuardedSyncTransport
from registry.sources.open_sockets import OpenSockets
from registry.sources.quarantine import TAKEN_FILES, QuarantineWriter
from registry.sources.registries.mlflow_access import server_url
from registry.sources.registries.mlflow_answers import Fields, MlflowError, number_of, text_of
from registry.sources.registries.mlflow_client import MlflowClient, Unreachable, adapter_folder
from registry.sources.threads import fetch_in_thread
from registry.sources.urls import SourceUrl


def mlflow_source(url: SourceUrl, guard: EgressGuard, server: str | None) -> "MlflowSource":
    """Raises InvalidSource, SourceUnsupported."""
    if not url.path:
        raise InvalidSource("mlflow:/ must be followed by NAME/NUMBER or NAME@ALIAS")
    server = server or os.environ.get("MLFLOW_TRACKING_URI", "")
    try:
        server_url(server)
    except MlflowError:
        raise SourceUnsupported(
            "mlflow:/ needs the URL of an MLflow server: ADAPTRY_MLFLOW_TRACKING_URI"
        ) from None
    return MlflowSource(url, guard, server)


class MlflowSource:
    """Implements `Source`."""

    def __init__(self, url: SourceUrl, guard: EgressGuard, server: str) -> None:
        self._url = url
        self._guard = guard
        self._server = server

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`; `revision` is the version's number."""
        return await fetch_in_thread(partial(self._fetch, into, limits, progress), progress.stop)

    def _fetch(
        self, into: Path, limits: FetchLimits, progress: Progress, sockets: OpenSockets
    ) -> FetchedSource:
        transport = GuardedSyncTransport(self._guard, sockets)
        try:
            with MlflowClient(self._server, transport) as client:
                return self._copy(client, into, limits, progress)
        except Unreachable as error:
            raise InvalidSource(f"{self._url} {error}") from None
        except MlflowError as error:
            raise _error(error, str(self._url)) from error

    def _copy(
        self, client: MlflowClient, into: Path, limits: FetchLimits, progress: Progress
    ) -> FetchedSource:
        version = self._version(client)
        location = client.location(version)
        if not location.startswith("mlflow-artifacts:"):
            raise Unreachable("has its files in a folder, not with MLflow (--serve-artifacts)")
        sizes = dict(islice(client.files(location), limits.max_files + 1))
        if len(sizes) > limits.max_files:
            raise SourceTooLarge(f"{self._url} holds more than {limits.max_files} files")
        folder = self._folder(sizes)
        paths = {name: f"{folder}/{name}".lstrip("/") for name in (*TAKEN_FILES, *TRAINING_FILES)}
        writer = QuarantineWriter(into, limits, progress)
        for name in TAKEN_FILES:
            writer.expect(sizes[paths[name]])
            with writer.open(name) as target:
                for chunk in client.download(location, paths[name]):
                    target.write(chunk)
            if name == CONFIG_FILE:
                writer.check_config()
        for name in TRAINING_FILES:
            if paths[name] in sizes:
                _take_beside(client, location, paths[name], name, writer)
        return writer.finish(str(number_of(version)))

    def _version(self, client: MlflowClient) -> Fields:
        """Raises Unreachable, MlflowError."""
        name, which = unquote(self._url.place), unquote(self._url.path[1:])
        if self._url.path.startswith("@"):
            version = client.version_of_alias(name, which)
        else:
            version = client.version(name, which)
        if version.get("status", "READY") != "READY":
            raise Unreachable(f"is {text_of(version, 'status')}")
        return version

    def _folder(self, sizes: dict[str, int]) -> str:
        try:
            return adapter_folder(sizes)
        except Unreachable:
            explain_missing_files(path.rpartition("/")[2] for path in sizes)
            raise


def _take_beside(
    client: MlflowClient, location: str, path: str, name: str, writer: QuarantineWriter
) -> None:
    """The adapter is complete without it, if it can't be had."""
    try:
        with writer.open_beside(name) as target:
            for chunk in client.download(location, path):
                target.write(chunk)
                if not target.has_room:
                    break
    except MlflowError:
        writer.leave_beside(name)


def _error(error: MlflowError, shown: str) -> RegistryError:
    match error.status:
        case 401 | 403:
            return SourceDenied(f"{shown} wants credentials, or other ones: {error}")
        case 404:
            return SourceNotFound(f"there is no {shown}: {error}")
        case 400:
            return InvalidSource(f"{shown} can't be read: {error}")
    return SourceUnavailable(f"{shown} can't be read now: {error}")
