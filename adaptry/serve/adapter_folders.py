"""Adapters of `adaptry serve`: the names and folders of `--lora-path`."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from adaptry.terminal.errors import UsageError
from registry.errors import InvalidReference
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.references import check_name

Adapters = tuple[tuple[str, Path], ...]
"""Name and folder of each."""


def name_adapters(
    lora_paths: Sequence[str], served_names: Sequence[str]
) -> tuple[Adapters, Sequence[str]]:
    """The adapters, and the served names that remain for the base model.

    With a single `--lora-path` that has no name, `--served-model-name` is the adapter's name.
    """
    named = [_split_name(text) for text in lora_paths]
    if len(named) == 1 and named[0][0] is None and served_names:
        if len(served_names) > 1:
            raise UsageError("--served-model-name: one name for the one adapter of --lora-path")
        named = [(_check_name(served_names[0], "--served-model-name"), named[0][1])]
        served_names = []
    adapters = tuple((name or _name_of(folder), folder) for name, folder in named)
    names = [name for name, _ in adapters]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--lora-path: two folders for {name!r}; "
                "register further versions with `adaptry adapter add`"
            )
    return adapters, served_names


def linked_files(adapters: Adapters) -> Iterator[Path]:
    """What the files of these folders lead to, as in the Hub's cache: these may be read too."""
    for _, folder in adapters:
        for name in (CONFIG_FILE, WEIGHTS_FILE, *TRAINING_FILES):
            if (folder / name).is_symlink():
                yield (folder / name).resolve()


def _split_name(text: str) -> tuple[str | None, Path]:
    """`NAME=DIR`, or `DIR` alone, which may contain a `=` too."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name:
        return None, _existing_folder(text)
    return _check_name(name, "--lora-path"), _existing_folder(path)


def _existing_folder(path: str) -> Path:
    if not os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        raise UsageError(f"--lora-path: {path!r} is not a folder")
    return Path(os.path.realpath(path))


def _name_of(folder: Path) -> str:
    try:
        return check_name(folder.name.lower())
    except InvalidReference as error:
        raise UsageError(f"--lora-path: {error.detail}: give it one, NAME={folder}") from error


def _check_name(name: str, option: str) -> str:
    try:
        return check_name(name)
    except InvalidReference as error:
        raise UsageError(f"{option}: {error.detail}") from error
