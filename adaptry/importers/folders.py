"""Import from folders: all subfolders of one, or those of vLLM's `--lora-modules`."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from adaptry.importers.base import ForeignAdapter, ForeignVersion, adapter_name, why_not
from adaptry.terminal.errors import CommandError, UsageError

Skipped = dict[str, str]
"""The reason why something is not imported, by its name."""


def from_peft_folder(folder: Path) -> tuple[list[ForeignAdapter], Skipped]:
    """Each subfolder is an adapter with its name; so is the folder itself, if PEFT saved it.

    Raises CommandError.
    """
    if not os.path.isdir(folder):
        raise CommandError(f"{folder} is not a folder")
    if why_not(folder) is None:
        return [_adapter(folder.absolute().name, folder)], {}
    skipped: Skipped = {}
    found: dict[str, ForeignAdapter] = {}
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (reason := why_not(subfolder)) is not None:
            skipped[subfolder.name] = reason
            continue
        _add(found, _adapter(subfolder.name, subfolder))
    if not found:
        raise CommandError(f"there is no adapter in {folder}: {_some(skipped)}")
    return list(found.values()), skipped


def from_lora_modules(modules: Sequence[str]) -> tuple[list[ForeignAdapter], Skipped]:
    """`name=path`, or JSON with `name`, `path` and other keys, as vLLM accepts them.

    Raises UsageError, CommandError.
    """
    found: dict[str, ForeignAdapter] = {}
    for module in modules:
        for name, path in _parse(module):
            folder = Path(path)
            if not os.path.isdir(folder):
                raise CommandError(
                    f"{name}: {path} is not a folder here (an adapter of the Hub is registered by"
                    " the server)"
                )
            if (reason := why_not(folder)) is not None:
                raise CommandError(f"{name}: {path} {reason}")
            _add(found, _adapter(name, folder))
    return list(found.values()), {}


def _parse(module: str) -> list[tuple[str, str]]:
    """vLLM reads text with a `=` and no comma as the first form, all other as JSON."""
    if "=" in module and "," not in module:
        name, _, path = module.partition("=")
        return [(name, path)]
    try:
        content = json.loads(module)
        modules = content if isinstance(content, list) else [content]
        return [(str(each["name"]), str(each["path"])) for each in modules]
    except (ValueError, TypeError, KeyError):
        raise UsageError(
            f'{module!r} is neither NAME=PATH nor JSON such as {{"name": …, "path": …}}'
        ) from None


def _adapter(name: str, folder: Path) -> ForeignAdapter:
    now = datetime.now(UTC)  # of its registration: a file's time says when it was saved or copied
    source = str(folder.absolute())
    version = ForeignVersion(folder, source, created_at=now, created_by="import")
    return ForeignAdapter(adapter_name(name), created_at=now, versions=[version])


def _add(found: dict[str, ForeignAdapter], adapter: ForeignAdapter) -> None:
    if adapter.name in found:
        first, second = found[adapter.name].versions[0].source, adapter.versions[0].source
        raise CommandError(f"{first} and {second} would both be named {adapter.name}")
    found[adapter.name] = adapter


def _some(skipped: Skipped) -> str:
    if not skipped:
        return "it has no subfolders"
    name, reason = next(iter(skipped.items()))
    return f"{name} {reason}" + (f", and {len(skipped) - 1} more" if len(skipped) > 1 else "")
