"""Offline adapters: a string is a reference, a folder, or a repository on the Hub."""

import asyncio
import os
import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from vllm.lora.request import LoRARequest

from engine.resolver import RegistryResolver
from engine.types import AdapterVersion
from registry.errors import SourceNotFound
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.service import RegistryService

_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")
_FILES = (CONFIG_FILE, WEIGHTS_FILE)

ACTOR = "offline"


class OfflineAdapters:
    """Registers folders when they are used; `by_id` has every version that the engine was given."""

    def __init__(self, service: RegistryService) -> None:
        self._service = service
        self._resolver = RegistryResolver(service.catalog)
        self._folders: dict[tuple[object, ...], str] = {}
        self.by_id: dict[int, AdapterVersion] = {}

    async def version_of(self, text: str) -> AdapterVersion:
        """A folder takes precedence over a reference, and that over the Hub.

        Raises the registry's errors: unknown, refused by inspection, not servable.
        """
        if os.path.isdir(text):
            text = await self._register(Path(os.path.realpath(text)))
        elif "/" in text:
            text = await self._register(await asyncio.to_thread(_download, text))
        version = await self._resolver.resolve(text)
        self.by_id[version.id] = version
        return version

    def is_ours(self, request: LoRARequest) -> bool:
        """Whether it names a version. Callers number their own as they like, from 1 as ours are."""
        known = self.by_id.get(request.lora_int_id)
        if known is None:
            return False
        return (request.lora_name, request.lora_path) == (known.engine_name, known.path)

    async def _register(self, folder: Path) -> str:
        """The version's reference. Its files are read again only if they have changed."""
        seen = (folder, *(_status(folder / name) for name in _FILES))
        if seen not in self._folders:
            name = _name_of(folder)
            registration = await self._service.registrar.register(name, str(folder), actor=ACTOR)
            self._folders[seen] = registration.published.reference
        return self._folders[seen]


def _name_of(folder: Path) -> str:
    name = folder.name
    if folder.parent.name == "snapshots":  # …/models--org--name/snapshots/<commit>
        name = folder.parents[1].name.removeprefix("models--")
    name = _NOT_IN_NAMES.sub("-", name.lower()).strip("._-")
    return name[:64] or "adapter"


def _status(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _download(repository: str) -> Path:
    """`org/name`, or `org/name@revision`. Raises SourceNotFound."""
    name, _, revision = repository.partition("@")
    try:
        folder = snapshot_download(name, revision=revision or None, allow_patterns=list(_FILES))
    except HFValidationError:
        raise SourceNotFound(f"{repository!r} is neither a folder nor on the Hub") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        problem = f"{repository!r} can't be downloaded from the Hub: {reason}"
        raise SourceNotFound(problem) from error
    return Path(folder)
