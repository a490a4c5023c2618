"""Serving modes: one engine in this process, replicas on Ray Serve, or stock vLLM servers."""

import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from adaptry.serve.arguments import ServeArguments
from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.extras import HOW
from registry.redaction import register_secrets
from registry.settings import RegistrySettings

_ENGINE_KEY = "ADAPTRY_ENGINE_API_KEY"


def serve_engine(
    arguments: ServeArguments, settings: RegistrySettings, listening: socket.socket
) -> None:
    import uvloop

    from engine.vllm.arguments import prefer_one_worker_process
    from engine.vllm.option_files.checks import use_option_files

    parsed = _parse_for_vllm(arguments, engines=1)
    with _usage_errors():
        use_option_files(parsed)
    prefer_one_worker_process(parsed)
    _log_like_vllm()
    uvloop.run(_run_server(arguments, settings, parsed, listening))


def serve_replicas(arguments: ServeArguments, settings: RegistrySettings, replicas: int) -> None:
    from engine.vllm.option_files.checks import refuse_tls, use_option_files
    from fleet.ray.launch import prepare_environment, serve_fleet

    if importlib.util.find_spec("ray") is None:
        raise CommandError(
            f"--replicas needs Ray Serve, of the extra [replicas]: {HOW.format('replicas')}"
        )
    prepare_environment(settings.database_url)
    parsed = _parse_for_vllm(arguments, engines=replicas)
    options = _fleet_options(arguments, settings, replicas)
    with _usage_errors():
        for each in _parse_classes(arguments, options, parsed).values():
            refuse_tls(each, "--replicas")
            use_option_files(each)
    serve_fleet(options, arguments.host, arguments.port)


def serve_stock_engines(arguments: ServeArguments, settings: RegistrySettings) -> None:
    import uvloop

    from engine.vllm.option_files.checks import refuse_tls
    from fleet.messages import EngineFacts
    from fleet.ray.launch import prepare_environment
    from fleet.stock.launch import serve_stock
    from fleet.stock.replica import StockSizes

    prepare_environment(settings.database_url)
    parsed = _parse_for_vllm(arguments, engines=1)
    options = _fleet_options(arguments, settings, len(arguments.engines))
    classes = _parse_classes(arguments, options, parsed)
    with _usage_errors():
        for each in classes.values():
            refuse_tls(each, "--engines")
    places = range(len(arguments.engines))
    sizes = [
        StockSizes(found.max_loras, found.max_cpu_loras, found.max_lora_rank)
        for found in (classes[options.arguments_of(place)] for place in places)
    ]
    if any(each.api_key for each in classes.values()):
        raise UsageError(
            f"--api-key: the engines' key is read from {_ENGINE_KEY}; create clients' keys with "
            "`adaptry key create`, and require them with --require-keys"
        )
    if engine_key := os.environ.get(_ENGINE_KEY):
        register_secrets(secrets=[engine_key])
    facts = EngineFacts(
        model=parsed.model,
        served_names=tuple(parsed.served_model_name or [parsed.model]),
        served_modules=None,
        max_rank=parsed.max_lora_rank,
        allowed_origins=tuple(parsed.allowed_origins),
        revision=parsed.revision,
        fleet_rank=max(each.max_rank for each in sizes),
    )
    uvloop.run(
        serve_stock(
            arguments.engines,
            facts,
            sizes,
            options,
            engine_key,
            arguments.host,
            arguments.port,
        )
    )


def _fleet_options(arguments: ServeArguments, settings: RegistrySettings, replicas: int) -> Any:
    """Raises UsageError for classes of more replicas than there are."""
    from fleet.options import FleetOptions, ReplicaClass

    classes = [ReplicaClass(replicas=n, vllm=vllm) for n, vllm in arguments.replica_classes]
    if sum(each.replicas for each in classes) > replicas:
        raise UsageError(f"--replica-class: there are no more than {replicas} engines")
    folder = Path(arguments.model)
    return FleetOptions(
        model=str(folder.resolve()) if folder.is_dir() else arguments.model,
        vllm=arguments.vllm,
        replicas=replicas,
        classes=tuple(classes),
        engine=arguments.settings,
        registry=settings.model_dump(mode="json", exclude={"database_url"}, exclude_unset=True),
        adapters=arguments.adapters,
        allow_untested_vllm=arguments.allow_untested_vllm,
    )


def _parse_classes(
    arguments: ServeArguments, options: Any, parsed: Any
) -> dict[tuple[str, ...], Any]:
    """vLLM's own parse of each different engine's arguments, by these. Raises UsageError.

    `parsed`: of those that are no class, which warns of what is not heeded.
    """
    return {
        given: parsed if given == arguments.vllm else _parse(arguments, given)
        for given in options.arguments_in_use()
    }


def _parse(arguments: ServeArguments, given: Sequence[str]) -> Any:
    from engine.vllm.arguments import parse_engine_arguments, secrets_in

    own = [f"--host={arguments.host}", f"--port={arguments.port}"]
    with _usage_errors():
        parsed = parse_engine_arguments(arguments.model, [*given, *own])
    register_secrets(secrets=secrets_in(parsed))
    return parsed


def _parse_for_vllm(arguments: ServeArguments, *, engines: int) -> Any:
    """vLLM's own parse of its arguments. Raises CommandError, UsageError."""
    from engine.vllm import compat as vllm_compat
    from engine.vllm.option_files.checks import check_logging_variable

    with _usage_errors():
        check_logging_variable()
    try:
        version = vllm_compat.check_version(allow_untested=arguments.allow_untested_vllm)
        vllm_compat.check_internals()
    except vllm_compat.UnsupportedVllm as error:
        raise CommandError(str(error)) from error
    if remark := vllm_compat.untested_remark(version):
        print(f"adaptry: warning: {remark}", file=sys.stderr)
    if vllm_compat.is_cpu_build():
        limit_threads(engines=engines)
    return _parse(arguments, arguments.vllm)


def limit_threads(*, engines: int) -> None:
    """The server needs a core too: OpenMP threads that spin for it are slower than fewer threads.

    Numba, by which vLLM drafts from n-grams, would give OpenMP all cores again.
    """
    cores = max(1, (os.cpu_count() or 2) // (1 + engines))
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    os.environ.setdefault("NUMBA_NUM_THREADS", threads)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """What is wrong with vLLM's arguments is the operator's mistake. Raises UsageError."""
    from engine.vllm.arguments import BadArgument

    try:
        yield
    except BadArgument as error:
        raise UsageError(str(error)) from error


def _log_like_vllm() -> None:
    """Log with vLLM's format and handlers; vLLM configures only its own loggers."""
    vllms = logging.getLogger("vllm")
    for name in ("adaptry", "engine", "registry"):
        ours = logging.getLogger(name)
        ours.handlers = vllms.handlers
        ours.setLevel(vllms.level)
        ours.propagate = False


async def _run_server(
    arguments: ServeArguments, settings: RegistrySettings, parsed: Any, listening: socket.socket
) -> None:
    from engine.app import run_server
    from engine.bootstrap.registry import register_folders
    from engine.server import serve_forever
    from engine.settings import EngineSettings

    engine_settings = EngineSettings(**arguments.settings)
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(run_server(parsed, engine_settings, settings))
        except OSError as error:
            if error.errno is not None:  # a file's; without a number it is what vLLM found
                raise
            raise CommandError(f"{arguments.model} can't be served: {error}") from error
        await register_folders(server.service, arguments.adapters)
        await serve_forever(server, parsed, listening)
