"""Profiles of `adaptry serve`: a YAML file with our settings and vLLM's arguments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from adaptry.shipped_files import shipped
from adaptry.terminal.errors import UsageError

_NOT_IN_PROFILES = ("model", "host", "port")  # vLLM would apply these unseen by us


class _Loader(yaml.SafeLoader):
    """lm-format-enforcer, which vLLM imports, has a process read dates as text from then on."""

    yaml_constructors: ClassVar[dict[Any, Any]] = dict(yaml.SafeLoader.yaml_constructors)


def read_profile(profile: str) -> dict[str, dict[str, Any]]:
    """The sections `adaptry` and `vllm` that the file has. Raises UsageError."""
    path = (
        Path(profile)
        if profile.endswith((".yaml", ".yml"))
        else shipped("configs") / f"{profile}.yaml"
    )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"profile {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or no such date
        raise UsageError(f"profile {path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not set(content) <= {"adaptry", "vllm"}:
        raise UsageError(f"profile {path} must hold `adaptry:` and `vllm:` only")
    sections = {name: {} if section is None else section for name, section in content.items()}
    for name, section in sections.items():
        if not isinstance(section, dict) or not all(isinstance(key, str) for key in section):
            raise UsageError(f"profile {path}: `{name}:` must hold lines like `option: value`")
    for option in _NOT_IN_PROFILES:
        if option in sections.get("vllm", {}):
            raise UsageError(f"profile {path}: {option} can be given on the command line only")
    return sections


def vllm_arguments(options: dict[str, Any], command_line: Sequence[str]) -> list[str]:
    """`max-loras: 2` as `--max-loras=2`, `true` as `--option`, `false` as `--no-option`.

    Options that the command line has too, in either sense, are left out.
    """
    decided = {_without_no(argument.partition("=")[0]) for argument in command_line}
    arguments: list[str] = []
    for name, value in options.items():
        option = with_dashes(f"--{name}")
        if value in (None, []) or _without_no(option) in decided:
            continue
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{option.removeprefix('--')}")
        elif isinstance(value, list):
            arguments += [option, *map(str, value)]
        elif isinstance(value, dict):
            arguments.append(f"{option}={json.dumps(value, default=str)}")
        else:
            arguments.append(f"{option}={value}")
    return arguments


def with_dashes(argument: str) -> str:
    """`--max_loras=2` as `--max-loras=2`, as vLLM reads it; the part after a dot is unchanged."""
    name, equals, value = argument.partition("=")
    option, dot, field = name.partition(".")
    if not option.startswith("--"):
        return argument
    return f"{option.replace('_', '-')}{dot}{field}{equals}{value}"


def _without_no(option: str) -> str:
    return f"--{option.removeprefix('--no-')}" if option.startswith("--no-") else option
