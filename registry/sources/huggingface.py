"""Hugging Face source: `hf://organisation/repository@revision/folder`, Hub or mirror.

huggingface_hub resolves the commit, the files' URLs and the token (`HF_ENDPOINT`, `HF_TOKEN`,
`HF_HUB_OFFLINE`, …). Files are fetched over guarded connections: huggingface_hub's own can't be
limited, checked or cancelled.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE, is_offline_mode
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported when asked for
    build_hf_headers,
    validate_repo_id,
)
from yarl import URL

from registry.errors import (
    AddressNotAllowed,
    InvalidSource,
    RegistryError,
    SourceDenied,
    SourceNotFound,
    SourceUnavailable,
)
from registry.inspection.foreign_folders import (
    explain_missing_files,
    is_weights,
    list_names,
    starts_in,
)
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.base import FetchedSource, FetchLimits, Progress
from registry.sources.disks.folders import share_of
from registry.sources.disks.reads import Share
from registry.sources.download import RemoteSource
from registry.sources.egress_guard import EgressGuard
from registry.sources.http import connect
from registry.sources.http_client import READ_SECONDS, forbid_downgrade
from registry.sources.quarantine import CHUNK_BYTES, TAKEN_FILES, QuarantineWriter
from registry.sources.threads import run_in_thread
from registry.sources.urls import SourceUrl


@dataclass(frozen=True, slots=True)
class HubFolder:
    """A folder of a repository at a revision: a branch, a tag or a commit."""

    repository: str
    revision: str | None
    folder: str

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name

    def names_in(self, listed: Iterable[str]) -> Iterator[str]:
        """Files of the repository that are in the folder, without those of its folders."""
        for path in listed:
            folder, _, name = path.rpartition("/")
            if folder == self.folder:
                yield name

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return "/".join(filter(None, (f"hf://{self.repository}{at}", self.folder)))


@dataclass(frozen=True, slots=True)
class _HubState:
    """`weights`: those in the folder, whatever their names."""

    commit: str
    weights: tuple[str, ...]


def parse_hub_url(url: SourceUrl) -> HubFolder:
    """A `/` within the revision is written as %2F. Raises InvalidSource."""
    name, _, rest = url.path.removeprefix("/").partition("/")
    name, at, revision = name.partition("@")
    repository = f"{url.place}/{name}"
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InvalidSource(f"hf://ORGANISATION/REPOSITORY[@REVISION][/FOLDER]: {error}") from None
    if at and not revision:
        raise InvalidSource("there is no revision after the '@'")
    return HubFolder(repository, unquote(revision) or None, rest.strip("/"))


class HubSource:
    """Implements `Source`. `endpoint` None means `HF_ENDPOINT`, or the public Hub."""

    def __init__(self, where: HubFolder, guard: EgressGuard, endpoint: str | None = None) -> None:
        self._where = where
        self._guard = guard
        self._api = HfApi(endpoint=endpoint)

    async def fetch(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """As `Source.fetch`; `revision` is the commit."""
        if is_offline_mode():
            copy = partial(self._copy_cached, into, limits, progress)
            cache = share_of(Path(HF_HUB_CACHE), (), None)
            return await run_in_thread(copy, progress.stop, share=cache)
        # left behind on cancellation: huggingface_hub waits as long as something comes
        asked = Share(self._api.endpoint, self._where.repository.partition("/")[0])
        found = await run_in_thread(self._state, progress.stop, share=asked)
        fetched = await self._remote(found).fetch(into, limits, progress)
        return replace(fetched, revision=found.commit)

    def _state(self) -> "_HubState":
        where = self._where
        endpoint = URL(self._api.endpoint)
        try:
            self._guard.addresses(endpoint.host or "", endpoint.port or 443)
            info = self._api.model_info(
                where.repository, revision=where.revision, timeout=READ_SECONDS
            )
        except AddressNotAllowed:
            raise
        except Exception as error:
            raise _error(error, str(where)) from error
        if info.sha is None:
            raise SourceUnavailable(f"the Hub names no commit of {where}")
        listed = [str(file.rfilename) for file in info.siblings or ()]
        return _HubState(str(info.sha), tuple(filter(is_weights, where.names_in(listed))))

    def _remote(self, found: "_HubState") -> RemoteSource:
        address = self._address(found.commit)
        headers = build_hf_headers(library_name="adaptry")
        may_call = forbid_downgrade(address(CONFIG_FILE))
        return RemoteSource(
            lambda: connect(address, may_call, self._guard, headers, found.weights),
            str(self._where),
            is_archive=False,
        )

    def _address(self, commit: str) -> Callable[[str], URL]:
        where = self._where

        def address(name: str) -> URL:
            url = hf_hub_url(
                where.repository, where.path(name), revision=commit, endpoint=self._api.endpoint
            )
            return URL(url, encoded=True)

        return address

    def _copy_cached(self, into: Path, limits: FetchLimits, progress: Progress) -> FetchedSource:
        """Copy from huggingface_hub's cache, in offline mode."""
        writer = QuarantineWriter(into, limits, progress)
        revision = self._where.revision
        for name in TAKEN_FILES:
            try:
                cached = self._cached_path(name, revision)
            except SourceNotFound:
                self._explain_cached(revision)
                raise
            revision = _commit_of(cached, self._where.path(name))
            writer.expect(cached.stat().st_size)
            with cached.open("rb") as source, writer.open(name) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
        for name in TRAINING_FILES:
            with suppress(SourceNotFound):
                cached = self._cached_path(name, revision)
                with cached.open("rb") as source, writer.open_beside(name) as beside:
                    while beside.has_room and (chunk := source.read(CHUNK_BYTES)):
                        beside.write(chunk)
        return writer.finish(revision)

    def _explain_cached(self, revision: str | None) -> None:
        """Raises InvalidAdapter if what the cache has tells what it is instead."""
        with suppress(LocalEntryNotFoundError, OSError):
            snapshot = snapshot_download(
                self._where.repository, revision=revision, local_files_only=True
            )
            folder = Path(snapshot, self._where.folder)
            explain_missing_files(list_names(folder), starts_in(folder, follows_links=True))

    def _cached_path(self, name: str, revision: str | None) -> Path:
        where = self._where
        try:
            path = hf_hub_download(
                where.repository,
                where.path(name),
                revision=revision,
                local_files_only=True,
            )
        except LocalEntryNotFoundError:
            raise SourceNotFound(
                f"huggingface_hub is offline and has no {name} of {where} in its cache"
            ) from None
        return Path(path)


def _commit_of(cached: Path, path_in_repository: str) -> str:
    """The cache holds `snapshots/COMMIT/path`."""
    return cached.parents[path_in_repository.count("/")].name


def _error(error: Exception, shown: str) -> RegistryError:
    match error:
        case GatedRepoError():
            return SourceDenied(f"{shown} is gated: ask for access, and set HF_TOKEN")
        case RepositoryNotFoundError():
            return SourceNotFound(f"{shown} is not there, or only for others: is HF_TOKEN set?")
        case RevisionNotFoundError():
            return SourceNotFound(f"{shown} has no such revision")
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return SourceDenied(f"the Hub does not accept this token for {shown}")
    words = " ".join(str(error).split())[:300]
    return SourceUnavailable(f"the Hub can't be queried for {shown} now: {words}")
