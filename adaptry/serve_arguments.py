"""The command line of `adaptry serve`: our few options; all others are vLLM's and pass through."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adaptry.errors import UsageError
from registry.names import AdapterReference, parse_reference

PROFILES = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True, slots=True)
class ServeArguments:
    """What the person asked for, before vLLM has seen its part of it."""

    model: str
    host: str
    port: int
    database: str | None
    store: Path | None
    source_roots: tuple[Path, ...]
    adapters: tuple[tuple[str, Path], ...]
    settings: dict[str, Any]
    vllm: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    """Knows our options only, so that `--help` and mistakes don't wait for vLLM's import."""
    ours = argparse.ArgumentParser(
        prog="adaptry serve",
        usage="adaptry serve MODEL [options] [any argument of `vllm serve`]",
        description="Serve a base model and every adapter of the registry.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    ours.add_argument("--lora-path", nargs="+", action="extend", default=[], metavar="[NAME=]DIR")
    ours.add_argument("--database", metavar="URL", help="default: SQLite in .adaptry/")
    ours.add_argument("--store", type=Path, metavar="DIR", help="where verified files are kept")
    ours.add_argument(
        "--source-root",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="folders from which adapters may be registered by path (default: none)",
    )
    ours.add_argument("--profile", metavar="NAME|FILE", help="demo, or a YAML file like it")
    ours.add_argument("--host", default="127.0.0.1")
    ours.add_argument("--port", type=int, default=8000)
    return ours


def parse(argv: Sequence[str]) -> ServeArguments:
    """Raises UsageError."""
    model, rest = _split_model(list(argv))
    try:
        ours, for_vllm = parser().parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    profile = _read_profile(ours.profile) if ours.profile else {}
    vllm_options = profile.get("vllm", {})
    served_name = _option(for_vllm, "--served-model-name")
    adapters = _name_adapters(ours.lora_path, served_name)
    if _is_the_adapters_name(ours.lora_path, served_name):
        for_vllm = _without_option(for_vllm, "--served-model-name")
    return ServeArguments(
        model=model,
        host=ours.host,
        port=ours.port,
        database=ours.database,
        store=ours.store,
        source_roots=tuple(ours.source_root),
        adapters=adapters,
        settings=profile.get("adaptry", {}),
        vllm=(*_profile_arguments(vllm_options, for_vllm), *for_vllm),
    )


def _split_model(argv: list[str]) -> tuple[str, list[str]]:
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    model = _option(argv, "--model")
    if model is None:
        raise UsageError("name the base model first: adaptry serve MODEL [options]")
    return model, _without_option(argv, "--model")


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`."""
    for position, argument in enumerate(arguments):
        given, equals, value = argument.partition("=")
        if given.replace("_", "-") == name:
            following = arguments[position + 1 : position + 2]
            return value if equals else next(iter(following), None)
    return None


def _without_option(arguments: Sequence[str], name: str) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        given, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif given.replace("_", "-") == name:
            skip = not equals
        else:
            kept.append(argument)
    return kept


def _is_the_adapters_name(folders: Sequence[str], served_name: str | None) -> bool:
    """With one nameless `--lora-path`, `--served-model-name` is what clients call the adapter."""
    return served_name is not None and len(folders) == 1 and "=" not in folders[0]


def _name_adapters(folders: Sequence[str], served_name: str | None) -> tuple[tuple[str, Path], ...]:
    if _is_the_adapters_name(folders, served_name):
        return ((_checked(str(served_name)), Path(folders[0]).resolve()),)
    named = []
    for folder in folders:
        name, equals, path = folder.rpartition("=")
        where = Path(path).resolve()
        named.append((_checked(name if equals else where.name.lower()), where))
    return tuple(named)


def _checked(name: str) -> str:
    from registry.errors import RegistryError

    try:
        reference: AdapterReference = parse_reference(name)
    except RegistryError as error:
        raise UsageError(
            f"--lora-path: {error.detail}; give it one: --lora-path NAME=DIR"
        ) from error
    return reference.adapter


def _read_profile(profile: str) -> dict[str, Any]:
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"profile {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"profile {path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not set(content) <= {"adaptry", "vllm"}:
        raise UsageError(f"profile {path} must hold `adaptry:` and `vllm:` only")
    return {key: value or {} for key, value in content.items()}


def _profile_arguments(options: dict[str, Any], given: Sequence[str]) -> list[str]:
    """`max-loras: 2` as `--max-loras=2`; what the command line says wins; false leaves it out."""
    arguments: list[str] = []
    for name, value in options.items():
        if _option(given, f"--{name}") is not None or f"--{name}" in given:
            continue
        if value is True:
            arguments.append(f"--{name}")
        elif value is not False and value is not None:
            arguments.append(f"--{name}={value}")
    return arguments
