"""Import from an MLflow model registry: PEFT adapters with numbers, aliases, tags, descriptions."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from adaptry.importers.base import (
    ForeignAdapter,
    ForeignVersion,
    adapter_name,
    default_alias,
    why_not,
)
from adaptry.importers.folders import Skipped
from adaptry.terminal.errors import CommandError
from registry.catalog.metadata import MAX_METADATA_BYTES, MAX_TAGS
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.inspection.training_files import MAX_FILE_BYTES
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.registries.mlflow_answers import (
    Fields,
    MlflowError,
    list_of,
    number_of,
    text_of,
    time_of,
)
from registry.sources.registries.mlflow_client import MlflowClient, Unreachable, adapter_folder

_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TAG = re.compile(r"[^\s,]{1,64}")
_STAGES = ("Production", "Staging")
_MAX_TEXT = 4096


def from_mlflow(
    url: str, workspace: Path, *, models: Sequence[str] = (), default: str | None = None
) -> tuple[list[ForeignAdapter], Skipped]:
    """All registered models that are adapters, or those named. Downloads into `workspace`.

    `default`: the alias that a bare name will mean; else the newest version. Raises CommandError.
    """
    try:
        return _read(url, workspace, models, default)
    except MlflowError as error:
        raise CommandError(str(error)) from error


def _read(
    url: str, workspace: Path, models: Sequence[str], default: str | None
) -> tuple[list[ForeignAdapter], Skipped]:
    skipped: Skipped = {}
    found: dict[str, ForeignAdapter] = {}
    with MlflowClient(url) as client:
        chosen = [client.model(name) for name in models] if models else list(client.models())
        for model in chosen:
            adapter = _adapter(client, model, workspace, skipped)
            if adapter is None:
                continue
            if adapter.name in found:
                raise CommandError(f"two models would both be named {adapter.name}")
            default_alias(adapter, default)
            found[adapter.name] = adapter
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise CommandError(f"there is no adapter in {url}" + (f" ({why})" if why else ""))
    return list(found.values()), skipped


def _adapter(
    client: MlflowClient, model: Fields, workspace: Path, skipped: Skipped
) -> ForeignAdapter | None:
    """None if none of its versions is an adapter."""
    described = client.versions(str(model["name"]))
    versions: list[ForeignVersion] = []
    for version in described:
        try:
            folder = _fetch(client, version, workspace)
        except Unreachable as error:
            skipped[f"{model['name']} version {version['version']}"] = str(error)
            continue
        versions.append(_version(client, version, folder))
    if not versions:
        return None
    tags = _pairs(model)
    adapter = ForeignAdapter(
        name=adapter_name(str(model["name"])),
        created_at=time_of(model),
        versions=versions,
        origin=client.url,
        description=_text(model.get("description")),
        tags=_tags(tags),
        metadata=_metadata(tags, name=model["name"]),
    )
    adapter.aliases = _aliases(model, described, {v.number or 0 for v in versions}, skipped)
    return adapter


def _fetch(client: MlflowClient, version: Fields, workspace: Path) -> Path:
    """The folder on this machine that holds the adapter. Raises Unreachable."""
    if version.get("status", "READY") != "READY":
        raise Unreachable(f"is {version['status']}")
    location = client.location(version)
    if not location.startswith("mlflow-artifacts:"):
        return _local(Path(location))
    sizes = dict(client.files(location))
    folder = adapter_folder(sizes)
    workspace.mkdir(parents=True, exist_ok=True)
    target = Path(mkdtemp(dir=workspace))
    for name in (CONFIG_FILE, WEIGHTS_FILE, *TRAINING_FILES):
        path = f"{folder}/{name}".lstrip("/")
        if path in sizes and (name not in TRAINING_FILES or sizes[path] <= MAX_FILE_BYTES):
            with (target / name).open("wb") as file:
                file.writelines(client.download(location, path))
    return target


def _local(folder: Path) -> Path:
    if not folder.is_dir():
        raise Unreachable(f"its files are at {folder}, which is not on this machine")
    paths = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    found = folder / adapter_folder(paths)
    if (reason := why_not(found)) is not None:
        raise Unreachable(reason)
    return found


def _version(client: MlflowClient, version: Fields, folder: Path) -> ForeignVersion:
    tags = _pairs(version)
    run = _text(version.get("run_id"))
    return ForeignVersion(
        folder=folder,
        source=f"{client.url}#models:/{version['name']}/{version['version']}"[:_MAX_TEXT],
        created_at=time_of(version),
        created_by=str(version.get("user_id") or "mlflow")[:256],
        number=number_of(version),
        description=_text(version.get("description")),
        tags=_tags(tags),
        metadata=_metadata(tags, run_id=run, source=version.get("source")),
        training_run=run,
    )


def _aliases(
    model: Fields, versions: Sequence[Fields], numbers: set[int], skipped: Skipped
) -> dict[str, int]:
    """MLflow's aliases, and its older stages if no alias has the same name."""
    found: dict[str, int] = {}
    for version in versions:  # the oldest first, so that the newest in a stage wins
        stage, number = str(version.get("current_stage") or ""), number_of(version)
        if stage in _STAGES and number in numbers:
            found[stage.lower()] = number
    for alias in list_of(model, "aliases"):
        name, number = text_of(alias, "alias").lower(), number_of(alias)
        what = f"{model['name']}@{alias['alias']}"
        if not _ALIAS.fullmatch(name):
            skipped[what] = "is no valid alias here"
        elif number not in numbers:
            skipped[what] = f"version {number} is not imported"
        else:
            found[name] = number
    return found


def _pairs(fields: Fields) -> dict[str, str]:
    return {text_of(tag, "key"): str(tag.get("value") or "") for tag in list_of(fields, "tags")}


def _tags(pairs: dict[str, str]) -> tuple[str, ...]:
    """`key=value`, or the key alone. Invalid tags are only in the metadata."""
    written = (f"{key}={value}" if value else key for key, value in pairs.items())
    return tuple(sorted(tag for tag in written if _TAG.fullmatch(tag) and tag.isprintable()))[
        :MAX_TAGS
    ]


def _metadata(tags: dict[str, str], **fields: object) -> dict[str, object]:
    """With the original tags, if they fit."""
    content = {**fields, "tags": tags}
    if len(json.dumps(content, ensure_ascii=False).encode()) > MAX_METADATA_BYTES - 100:
        content = fields
    return {"mlflow": content}


def _text(value: object) -> str | None:
    return str(value)[:_MAX_TEXT] if value else None
