"""Arguments of `adaptry serve`: our own options; all others are passed to vLLM."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adaptry.serve import option_types
from adaptry.serve.adapter_folders import Adapters, name_adapters
from adaptry.serve.option_names import check_names
from adaptry.serve.profile import read_profile, vllm_arguments, with_dashes
from adaptry.terminal.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServeArguments:
    """The parsed command line; `vllm` is not parsed yet."""

    model: str
    host: str
    port: int
    database: str | None
    base_id: str | None
    server_id: str | None
    store: Path | None
    source_roots: tuple[Path, ...]
    source_urls: tuple[str, ...]
    adapters: Adapters
    settings: dict[str, Any]
    require_keys: bool | None
    allow_untested_vllm: bool
    replicas: int | None
    engines: tuple[str, ...]
    replica_classes: tuple[tuple[int, tuple[str, ...]], ...]
    vllm: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    """Knows only our options, so that `--help` and mistakes don't wait for vLLM's import."""
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
        "--database",
        type=option_types.database_url,
        metavar="URL",
        help="default: SQLite in .adaptry/",
    )
    ours.add_argument(
        "--base-id",
        metavar="NAME",
        help="name of the base model, to which versions are bound (default: Hub name or folder)",
    )
    ours.add_argument(
        "--server-id",
        metavar="NAME",
        help="name of this server on its database (default: HOST:PORT, or localhost:PORT)",
    )
    ours.add_argument(
        "--store", type=option_types.folder, metavar="DIR", help="folder of the verified files"
    )
    _add_sources(ours, several)
    ours.add_argument(
        "--preload", **several, metavar="REF", help="adapters to load into host memory at startup"
    )
    ours.add_argument(
        "--host-cache-bytes", metavar="SIZE", help="most host memory that adapters may take"
    )
    ours.add_argument(
        "--eviction-policy",
        choices=["adaptive", "look-ahead", "lru", "lfu", "s3-fifo", "cost"],
        help="who leaves a slot or host memory first (default: adaptive)",
    )
    ours.add_argument(
        "--shadow-policy",
        choices=["adaptive", "look-ahead", "lru", "lfu", "s3-fifo", "cost"],
        help="a candidate beside it, to see what it would have hit (default: none)",
    )
    ours.add_argument("--profile", metavar="NAME|FILE", help="demo, or a YAML file like it")
    ours.add_argument(
        "--replicas",
        type=option_types.replica_count,
        metavar="N",
        help="engines behind one address, by Ray Serve (default: one engine, without Ray)",
    )
    ours.add_argument(
        "--engines",
        **several,
        type=option_types.engine_url,
        metavar="URL",
        help="serve from these stock vLLM servers instead of our own engine",
    )
    ours.add_argument(
        "--replica-class",
        action="append",
        default=[],
        type=option_types.replica_class,
        metavar='"N ARGUMENTS"',
        help="other arguments of the first N engines, such as a smaller --max-lora-rank",
    )
    ours.add_argument(
        "--allow-untested-vllm",
        action="store_true",
        help="start with a vLLM older than the tested ones too",
    )
    ours.add_argument(
        "--require-keys",
        action=argparse.BooleanOptionalAction,
        help="require API keys; must be decided if --host is not loopback",
    )
    ours.add_argument("--host", type=option_types.host_name, default="127.0.0.1")
    ours.add_argument("--port", type=option_types.port_number, default=8000)
    return ours


def _add_sources(ours: argparse.ArgumentParser, several: dict[str, Any]) -> None:
    ours.add_argument(
        "--source-root",
        **several,
        type=option_types.folder,
        metavar="DIR",
        help="folders from which adapters may be registered by path (default: none)",
    )
    ours.add_argument(
        "--source-url",
        **several,
        type=option_types.source_url,
        metavar="URL",
        help="what may be fetched: hf://ORG, s3://BUCKET, https://HOST, … (default: hf://)",
    )


def parse(argv: Sequence[str]) -> ServeArguments:
    """Raises UsageError."""
    arguments = [with_dashes(argument) for argument in argv]
    first = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    try:
        ours, for_vllm = parser().parse_known_args(arguments[len(first) :])
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    if for_vllm and not for_vllm[0].startswith("-"):
        raise UsageError(f"{for_vllm[0]!r} stands where an option is expected")
    check_names(for_vllm, list(parser()._option_string_actions))
    profile = {} if ours.profile is None else read_profile(ours.profile)
    adapters, served_names = name_adapters(ours.lora_path, ours.served_model_name)
    if served_names:
        for_vllm += ["--served-model-name", *served_names]
    return ServeArguments(
        model=_model(first, ours.model),
        host=ours.host,
        port=ours.port,
        database=ours.database,
        base_id=ours.base_id,
        server_id=ours.server_id,
        store=ours.store,
        source_roots=tuple(ours.source_root),
        source_urls=tuple(ours.source_url),
        adapters=adapters,
        settings=profile.get("adaptry", {}) | _settings(ours),
        require_keys=ours.require_keys,
        allow_untested_vllm=ours.allow_untested_vllm,
        replicas=ours.replicas,
        engines=_engines(ours),
        replica_classes=_replica_classes(ours),
        vllm=(*vllm_arguments(profile.get("vllm", {}), for_vllm), *for_vllm),
    )


def _settings(ours: argparse.Namespace) -> dict[str, Any]:
    """The engine settings that have their own option, if it was given."""
    given = {
        "preload": ours.preload,
        "host_cache_bytes": ours.host_cache_bytes,
        "eviction_policy": ours.eviction_policy,
        "shadow_policy": ours.shadow_policy,
    }
    return {name: value for name, value in given.items() if value}


def _model(first: Sequence[str], option: str | None) -> str:
    """The base model comes first or, as in vLLM's older form, after `--model`."""
    if first and option is not None:
        raise UsageError(f"one base model: {first[0]!r} or --model {option!r}")
    model = first[0] if first else option
    if not model:
        raise UsageError("name the base model first: adaptry serve MODEL [options]")
    return model


def _engines(ours: argparse.Namespace) -> tuple[str, ...]:
    if ours.engines and ours.replicas is not None:
        raise UsageError("--engines or --replicas: the engines are either stock servers or our own")
    urls = tuple(dict.fromkeys(ours.engines))
    if len({urlsplit(url).netloc.rpartition("@")[2].lower() for url in urls}) < len(urls):
        raise UsageError("--engines: two servers have the same host and port")
    return urls


def _replica_classes(ours: argparse.Namespace) -> tuple[tuple[int, tuple[str, ...]], ...]:
    if ours.replica_class and not ours.engines and ours.replicas is None:
        raise UsageError("--replica-class needs --replicas or --engines: one engine has no classes")
    for _, arguments in ours.replica_class:
        check_names(arguments, list(parser()._option_string_actions))
    return tuple(ours.replica_class)
