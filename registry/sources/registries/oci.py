"""OCI source: `oci://registry/repository:tag` or `@sha256:…`, read with oras (the extra `oci`).

An artifact of ModelPack (`application/vnd.cncf.model…`) or of ORAS: each layer is a file named by
its annotation, or a tar. A digest that does not fit ends the fetch.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from registry.errors import (
    InvalidRedirect,
    InvalidSource,
    RegistryError,
    SourceDenied,
    SourceNotFound,
    SourceUnavailable,
)
from registry.inspection.foreign_folders import explain_missing_files
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import PICKLE_FILE, WEIGHTS_FILE
from registry.inspection.training_files import FOLDER as TRAINING_FOLDER
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.archive import extract
from registry.sources.base import (
    FetchedFile,
    FetchedSource,
    FetchLimits,
    Progress,
    UncountedProgress,
)
from registry.sources.egress_guard import EgressGuard
from registry.sources.open_sockets import OpenSockets
from registry.sources.quarantine import TAKEN_FILES, BesideFile, IncomingFile, QuarantineWriter
from registry.sources.registries.oci_client import OciClient
from registry.sources.registries.oci_layers import Layer, read_layers
from registry.sources.threads import fetch_in_thread
from registry.sources.urls import SourceUrl

_CONFIG_TAR = "application/vnd.cncf.model.weight.config.v1.tar"
_NO_REALM = (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema)
"""Without a password for a registry that has no tokens, oras takes the realm for a URL."""
_DENIED, _NOT_FOUND = (401, 403), (404,)


class OciSource:
    """Implements `Source`."""

    def __init__(self, url: SourceUrl, guard: EgressGuard, plain_http: Collection[str]) -> None:
        self._url = url
        self._open = partial(OciClient, url, guard, plain_http)
        self._open()  # raises InvalidSource

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`; `revision` is the manifest's digest."""
        return await fetch_in_thread(partial(self._fetch, into, limits, progress), progress.stop)

    def _fetch(
        self, into: Path, limits: FetchLimits, progress: Progress, sockets: OpenSockets
    ) -> FetchedSource:
        try:
            with self._open(sockets) as client:
                manifest, digest = client.manifest()
                layers = read_layers(manifest, str(self._url), limits.max_files)
                tars = [layer for layer in layers if layer.is_tar and not layer.is_beside]
                writer = QuarantineWriter(into, limits, progress)
                if any(layer.name in TAKEN_FILES for layer in layers) or not tars:
                    self._take_files(client, layers, writer)
                    return writer.finish(digest)
                self._check_tars(tars)
                found = self._take_tars(client, tars, into, limits, progress)
                return replace(found, revision=digest)
        except (requests.RequestException, HTTPError) as error:  # urllib3's, while a body comes
            raise _error(error, str(self._url)) from error
        except ValueError as error:  # oras's word for a demand that it has no credentials for
            raise SourceDenied(f"{self._url} wants credentials (docker login)") from error

    def _take_files(
        self, client: OciClient, layers: Sequence[Layer], writer: QuarantineWriter
    ) -> None:
        folders = {layer.folder for layer in layers if layer.name in TAKEN_FILES}
        if len(folders) > 1:
            raise InvalidSource(f"{self._url} holds {len(folders)} adapters")
        here = {layer.name: layer for layer in layers if layer.folder in folders}
        for name in TAKEN_FILES:
            if (layer := here.get(name)) is not None:
                writer.expect(layer.size_bytes)
                self._copy(client, layer, writer.open(name))
            if name == CONFIG_FILE and layer is not None:
                writer.check_config()
        if WEIGHTS_FILE not in here and PICKLE_FILE in here:
            writer.mark_pickle()
        elif not here.keys() >= set(TAKEN_FILES):
            explain_missing_files(layer.path for layer in layers)
            if not here:
                raise SourceNotFound(f"{self._url} holds no adapter")
        for name in TRAINING_FILES:
            if (layer := here.get(name)) is not None:
                self._take_beside(client, layer, name, writer)

    def _take_beside(
        self, client: OciClient, layer: Layer, name: str, writer: QuarantineWriter
    ) -> None:
        """The adapter is complete without it, if it can't be had."""
        try:
            self._copy(client, layer, writer.open_beside(name))
        except (RegistryError, requests.RequestException, HTTPError, ValueError):
            writer.leave_beside(name)

    def _copy(self, client: OciClient, layer: Layer, opened: IncomingFile | BesideFile) -> None:
        """Raises SourceUnavailable if it is not what its digest says."""
        hasher, size_bytes = hashlib.sha256(), 0
        with opened as target:
            for chunk in client.blob(layer.digest):
                hasher.update(chunk)
                size_bytes += len(chunk)
                if size_bytes > layer.size_bytes:
                    break
                target.write(chunk)
                if isinstance(target, BesideFile) and not target.has_room:
                    return  # it is dropped, whatever follows
            if (size_bytes, f"sha256:{hasher.hexdigest()}") != (layer.size_bytes, layer.digest):
                raise SourceUnavailable(f"{self._url}: {layer.digest} is not what its digest says")

    def _check_tars(self, tars: Sequence[Layer]) -> None:
        """Of several, one must say that it has the configuration, which is looked at first."""
        if len(tars) > 1 and sum(layer.is_config for layer in tars) != 1:
            raise InvalidSource(
                f"{self._url} holds {len(tars)} tars, and neither media types nor names say which "
                f"one has {CONFIG_FILE}: push that as {_CONFIG_TAR}, or all files in one tar"
            )

    def _take_tars(
        self,
        client: OciClient,
        tars: Sequence[Layer],
        into: Path,
        limits: FetchLimits,
        progress: Progress,
    ) -> FetchedSource:
        """Each into a folder of its own, then together. The configuration first."""
        files: dict[str, FetchedFile] = {}
        remarks: list[tuple[str, str]] = []
        left_bytes = limits.written_bytes
        for layer in sorted(tars, key=lambda each: (not each.is_config, each.size_bytes)):
            folder = into / layer.digest.removeprefix("sha256:")
            folder.mkdir()
            archive = QuarantineWriter(folder, limits, progress)
            archive.expect(layer.size_bytes)
            self._copy(client, layer, archive.open("source.tar"))
            unpacked = into / f"{folder.name}.files"
            unpacked.mkdir()
            part = extract(
                folder / "source.tar",
                unpacked,
                _at_most(limits, left_bytes),
                UncountedProgress(progress),
                has_config=CONFIG_FILE in files,
            )
            (folder / "source.tar").unlink()
            folder.rmdir()
            for file in part.files:
                if file.name in files:
                    raise InvalidSource(f"{self._url} holds {file.name} twice")
                files[file.name] = file
                left_bytes -= file.size_bytes
                (unpacked / file.name).rename(into / file.name)
            _join_training(unpacked / TRAINING_FOLDER, into / TRAINING_FOLDER)
            unpacked.rmdir()
            remarks += part.remarks
        return FetchedSource(tuple(files.values()), remarks=tuple(remarks))


def _at_most(limits: FetchLimits, left_bytes: int) -> FetchLimits:
    tenant_bytes = None if limits.tenant_bytes is None else min(limits.tenant_bytes, left_bytes)
    return replace(limits, max_bytes=min(limits.max_bytes, left_bytes), tenant_bytes=tenant_bytes)


def _join_training(part: Path, whole: Path) -> None:
    if part.is_dir():
        whole.mkdir(exist_ok=True)
        for file in part.iterdir():
            file.rename(whole / file.name)
        part.rmdir()


def _error(error: requests.RequestException | HTTPError, shown: str) -> RegistryError:
    if isinstance(error, _NO_REALM):
        return SourceDenied(f"{shown} wants credentials (docker login)")
    if isinstance(error, requests.TooManyRedirects):
        return InvalidRedirect(f"{shown} is redirected too many times")
    response = getattr(error, "response", None)
    status = None if response is None else response.status_code
    if status in _DENIED:
        return SourceDenied(f"{shown} wants credentials, or other ones (docker login)")
    if status in _NOT_FOUND:
        return SourceNotFound(f"there is no {shown}")
    why = f"status {status}" if status else type(error).__name__
    return SourceUnavailable(f"{shown} can't be read now: {why}")
