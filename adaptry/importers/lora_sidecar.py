"""Import from the configuration of the retired LoRA sidecar of gateway-api-inference-extension.

Its `vLLMLoRAConfig` lists adapters that must exist and adapters that must not; it is a file of its
own, or in a ConfigMap as its users stored it. (tools/dynamic-lora-sidecar there, removed in 2026.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adaptry.client import Client, NotFound
from adaptry.importers.base import adapter_name
from adaptry.terminal.errors import CommandError
from adaptry.terminal.job_progress import register
from registry.validation import explain

KEY = "vLLMLoRAConfig"


class Model(BaseModel):
    """One adapter. Its base model is ignored: the server's own applies."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]


class Models(BaseModel):
    models: list[Model]


class SidecarConfig(BaseModel):
    """Its server address is ignored: `--server` names the server."""

    model_config = ConfigDict(extra="ignore")

    ensureExist: Models = Models(models=[])  # noqa: N815  # theirs
    ensureNotExist: Models = Models(models=[])  # noqa: N815


@dataclass(slots=True)
class Reconciled:
    """What was changed, or would be, by reference."""

    registered: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def read_sidecar_config(file: Path) -> SidecarConfig:
    """Raises CommandError."""
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        found = [config for document in documents for config in _configs(document)]
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise CommandError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if len(found) != 1:
        raise CommandError(f"{file} has {KEY} {len(found)} times, not once")
    try:
        return SidecarConfig.model_validate(found[0])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (KEY, *first["loc"])))
        raise CommandError(f"{file}: {where}: {explain(first)}") from error


def _configs(document: Any) -> Iterator[Any]:
    if not isinstance(document, dict):
        return
    if KEY in document:
        yield document[KEY]
    elif document.get("kind") == "ConfigMap" and isinstance(document.get("data"), dict):
        for text in document["data"].values():
            yield from _configs(yaml.safe_load(text) if isinstance(text, str) else None)


def reconcile(client: Client, config: SidecarConfig, *, dry_run: bool) -> Reconciled:
    """As the sidecar did, once: retires what must not exist, then registers the rest.

    Raises CommandError before anything is changed, and the client's errors.
    """
    done = Reconciled()
    unwanted = {adapter_name(model.id) for model in config.ensureNotExist.models}
    wanted = [(adapter_name(model.id), model.source) for model in config.ensureExist.models]
    for name, _ in wanted:
        if name in unwanted:
            raise CommandError(f"{name} both has to exist and must not exist")
    for name in sorted(unwanted):
        _retire(client, name, done, dry_run=dry_run)
    for name, source in wanted:
        _ensure(client, name, locate(source), done, dry_run=dry_run)
    return done


def locate(source: str) -> str:
    """An existing local folder, else `org/repo` on the Hub, as vLLM reads it."""
    if "://" in source:
        return source
    if Path(source).exists():
        return str(Path(source).absolute())
    return source if source.startswith("/") or source.count("/") != 1 else f"hf://{source}"


def _retire(client: Client, name: str, done: Reconciled, *, dry_run: bool) -> None:
    try:
        versions = [v for v in client.versions.list(name) if v.state in ("ready", "deprecated")]
    except NotFound:
        versions = []
    for version in versions:
        if not dry_run:
            client.versions.retire(version.reference, force=True)
        done.retired.append(version.reference)


def _ensure(client: Client, name: str, source: str, done: Reconciled, *, dry_run: bool) -> None:
    if dry_run:
        known = _served_from(client, name) == source
        (done.unchanged if known else done.registered).append(name)
        return
    registration = register(client, name, source, None)
    version = registration.version
    if version.state == "retired":
        version = client.versions.restore(version.reference)
    meant = client.aliases.get(name).version
    if meant != version.number:
        client.aliases.set(name, version=version.number)
        done.promoted.append(version.reference)
    (done.registered if registration.is_new else done.unchanged).append(version.reference)


def _served_from(client: Client, name: str) -> str | None:
    try:
        version = client.versions.resolve(name)
    except NotFound:
        return None
    return version.source
