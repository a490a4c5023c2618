"""Local PEFT folder of an upload: the training files that go with it, and what is there instead.

The registry's modules are imported when they are needed: that takes longer than most commands.
"""

from pathlib import Path

from adaptry.client.errors import InvalidSource


def training_files(folder: Path) -> list[Path]:
    """What the server compares with its base model."""
    from registry.sources.beside import files_to_send

    return files_to_send(folder)


def training_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in training_files(folder))


def explain_missing(folder: Path) -> None:
    """What is there in place of a PEFT folder. Raises InvalidSource if that is known."""
    from registry.errors import InvalidAdapter
    from registry.inspection.foreign_folders import explain_missing_files, list_names, starts_in

    try:
        explain_missing_files(list_names(folder), starts_in(folder))
    except InvalidAdapter as problem:
        raise InvalidSource(f"{folder}: {problem.detail}") from None
