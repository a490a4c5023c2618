"""The command line of `adaptry serve`: our few options; all others are vLLM's and pass through."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adaptry.serve.profile import dashed, read_profile, vllm_arguments
from adaptry.terminal.errors import UsageError
from registry.database.engine import check_url
from registry.errors import InvalidReference
from registry.references import check_name
from registry.sources.urls import UrlRules

Adapters = tuple[tuple[str, Path], ...]

MAX_REPLICAS = 10_000


@dataclass(frozen=True, slots=True)
class ServeArguments:
    """What the person asked for, before vLLM has seen its part of it."""

    model: str
    host: str
    port: int
    database: str | None
    store: Path | None
    source_roots: tuple[Path, ...]
    source_urls: tuple[str, ...]
    adapters: Adapters
    settings: dict[str, Any]
    require_keys: bool | None
    allow_untested_vllm: bool
    replicas: int | None
    engines: tuple[str, ...]
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
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    ours.add_argument("--model", help=argparse.SUPPRESS)
    ours.add_argument("--lora-path", **several, metavar="[NAME=]DIR", help="adapters to register")
    ours.add_argument(
        "--served-model-name",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what clients call the model, or the adapter if there is one --lora-path DIR",
    )
    ours.add_argument(
        "--database", type=_database, metavar="URL", help="default: SQLite in .adaptry/"
    )
    ours.add_argument("--store", type=_folder, metavar="DIR", help="where verified files are kept")
    _add_sources(ours, several)
    ours.add_argument(
        "--preload", **several, metavar="REF", help="adapters to have in host memory from the start"
    )
    ours.add_argument(
        "--host-cache-bytes", metavar="SIZE", help="most that adapters may take in host memory"
    )
    ours.add_argument("--profile", metavar="NAME|FILE", help="demo, or a YAML file like it")
    ours.add_argument(
        "--replicas",
        type=_count,
        metavar="N",
        help="so many engines behind one address, by Ray Serve (default: one engine, without Ray)",
    )
    ours.add_argument(
        "--engines",
        **several,
        type=_engine_url,
        metavar="URL",
        help="drive these stock vLLM servers instead of an engine of our own",
    )
    ours.add_argument(
        "--allow-untested-vllm", action="store_true", help="start with any version of vLLM"
    )
    ours.add_argument(
        "--require-keys",
        action=argparse.BooleanOptionalAction,
        help="ask for API keys; has to be decided where --host is not loopback",
    )
    ours.add_argument("--host", type=_host, default="127.0.0.1")
    ours.add_argument("--port", type=_port, default=8000)
    return ours


def _add_sources(ours: argparse.ArgumentParser, several: dict[str, Any]) -> None:
    ours.add_argument(
        "--source-root",
        **several,
        type=_folder,
        metavar="DIR",
        help="folders from which adapters may be registered by path (default: none)",
    )
    ours.add_argument(
        "--source-url",
        **several,
        type=_source_url,
        metavar="URL",
        help="what may be fetched: hf://ORG, s3://BUCKET, https://HOST, … (default: hf://)",
    )


def parse(argv: Sequence[str]) -> ServeArguments:
    """Raises UsageError."""
    arguments = [dashed(argument) for argument in argv]
    first = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    try:
        ours, for_vllm = parser().parse_known_args(arguments[len(first) :])
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    if for_vllm and not for_vllm[0].startswith("-"):
        raise UsageError(f"{for_vllm[0]!r} stands where an option is expected")
    profile = {} if ours.profile is None else read_profile(ours.profile)
    adapters, served_names = _name_adapters(ours.lora_path, ours.served_model_name)
    if served_names:
        for_vllm += ["--served-model-name", *served_names]
    return ServeArguments(
        model=_model(first, ours.model),
        host=ours.host,
        port=ours.port,
        database=ours.database,
        store=ours.store,
        source_roots=tuple(ours.source_root),
        source_urls=tuple(ours.source_url),
        adapters=adapters,
        settings=profile.get("adaptry", {}) | _settings(ours),
        require_keys=ours.require_keys,
        allow_untested_vllm=ours.allow_untested_vllm,
        replicas=ours.replicas,
        engines=_engines(ours),
        vllm=(*vllm_arguments(profile.get("vllm", {}), for_vllm), *for_vllm),
    )


def _settings(ours: argparse.Namespace) -> dict[str, Any]:
    """Those that have an option of their own, if it was given."""
    given = {"preload": ours.preload, "host_cache_bytes": ours.host_cache_bytes}
    return {name: value for name, value in given.items() if value}


def _model(first: Sequence[str], option: str | None) -> str:
    """The base model stands first or, as in vLLM's older form, after `--model`."""
    if first and option is not None:
        raise UsageError(f"one base model: {first[0]!r} or --model {option!r}")
    model = first[0] if first else option
    if not model:
        raise UsageError("name the base model first: adaptry serve MODEL [options]")
    return model


def _database(text: str) -> str:
    try:
        check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"this URL does not work here ({error})") from error
    return text


def _folder(text: str) -> Path:
    if not text:  # an unset variable of a script would mean the working directory
        raise argparse.ArgumentTypeError("this names no folder")
    return Path(text)


def _source_url(text: str) -> str:
    try:
        UrlRules([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _host(text: str) -> str:
    try:
        encoded = text.encode("idna")
    except UnicodeError:
        encoded = b""
    if not encoded:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host")
    return text


def is_loopback(host: str) -> bool:
    """Nobody on another machine can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _engines(ours: argparse.Namespace) -> tuple[str, ...]:
    if ours.engines and ours.replicas is not None:
        raise UsageError("--engines or --replicas: an engine is a stock server's or ours")
    return tuple(dict.fromkeys(ours.engines))


def _engine_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise argparse.ArgumentTypeError(f"{text!r} is no server (http://HOST:PORT)")
    return f"{parts.scheme}://{parts.netloc}"


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_REPLICAS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of replicas (1 to {MAX_REPLICAS})")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _name_adapters(
    lora_paths: Sequence[str], served_names: Sequence[str]
) -> tuple[Adapters, Sequence[str]]:
    """Name and folder of each adapter, and the names that are left for the base model.

    With one nameless `--lora-path`, `--served-model-name` is what clients call the adapter.
    """
    named = [_split_name(text) for text in lora_paths]
    if len(named) == 1 and named[0][0] is None and served_names:
        if len(served_names) > 1:
            raise UsageError("--served-model-name: one name for the one adapter of --lora-path")
        named = [(_checked(served_names[0], "--served-model-name"), named[0][1])]
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


def _split_name(text: str) -> tuple[str | None, Path]:
    """`NAME=DIR`, or `DIR` alone, which may hold a `=` too."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name:
        return None, _existing(text)
    return _checked(name, "--lora-path"), _existing(path)


def _existing(path: str) -> Path:
    if not os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        raise UsageError(f"--lora-path: {path!r} is not a folder")
    return Path(os.path.realpath(path))


def _name_of(folder: Path) -> str:
    try:
        return check_name(folder.name.lower())
    except InvalidReference as error:
        raise UsageError(f"--lora-path: {error.detail}: give it one, NAME={folder}") from error


def _checked(name: str, option: str) -> str:
    try:
        return check_name(name)
    except InvalidReference as error:
        raise UsageError(f"{option}: {error.detail}") from error
