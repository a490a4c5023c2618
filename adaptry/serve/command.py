"""`adaptry serve`: check what can be checked at once, then start the engine and serve."""

import importlib.util
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adaptry.serve.arguments import ServeArguments, is_loopback, parse, parser
from adaptry.serve.preflight import check_compiler, check_engine
from adaptry.terminal.errors import CommandError, UsageError
from registry.database.engine import async_url
from registry.errors import RegistryError
from registry.redaction import (
    hide_secrets_in_logs,
    redact,
    register_process_secrets,
    register_secrets,
)
from registry.settings import RegistrySettings

_ENGINE_KEY = "ADAPTRY_ENGINE_API_KEY"


def run(argv: Sequence[str]) -> int:
    """Serve until stopped; the exit code. A mistake ends it with one line on standard error."""
    if {"-h", "--help"} & set(argv):
        parser().print_help()
        print("\nvLLM's own arguments: vllm serve --help=all")
        return 0
    try:
        _run(parse(argv))
    except CommandError as error:
        return _fail(str(error), error.exit_code)
    except ValidationError as error:
        return _fail(_first_problem(error), UsageError.exit_code)
    except RegistryError as error:
        return _fail(error.detail, 1)
    except KeyboardInterrupt:
        return 0
    return 0


def _run(arguments: ServeArguments) -> None:
    settings = _registry_settings(arguments)
    register_process_secrets(settings.database_url)
    hide_secrets_in_logs()
    _check_exposure(arguments.host, settings)
    listening = _listen(arguments.host, arguments.port)
    check_compiler(check_engine(), eager="--enforce-eager" in arguments.vllm)
    _hide_secrets_in_process_list()
    signal.signal(signal.SIGTERM, _interrupt)  # until the HTTP server has its own handlers
    if arguments.engines:
        listening.close()  # it is free: uvicorn takes it
        _serve_stock(arguments, settings)
        return
    if arguments.replicas is not None:
        listening.close()  # it is free: Ray's proxy takes it
        _serve_fleet(arguments, settings, arguments.replicas)
        return
    with listening:
        _serve(arguments, listening)


def _serve(arguments: ServeArguments, listening: socket.socket) -> None:
    import uvloop

    from engine.vllm.arguments import prefer_one_worker_process

    parsed = _checked(arguments, engines=1)
    prefer_one_worker_process(parsed)
    _log_as_vllm_does()
    uvloop.run(_serve_engine(arguments, parsed, listening))


def _serve_fleet(arguments: ServeArguments, settings: RegistrySettings, replicas: int) -> None:
    from fleet.ray.launch import prepare_environment, serve_fleet

    if importlib.util.find_spec("ray") is None:
        raise CommandError("--replicas needs Ray Serve: pip install 'adaptry[replicas]'")
    prepare_environment(settings.database_url)
    _checked(arguments, engines=replicas)
    options = _fleet_options(arguments, settings)
    serve_fleet(options.model_copy(update={"replicas": replicas}), arguments.host, arguments.port)


def _serve_stock(arguments: ServeArguments, settings: RegistrySettings) -> None:
    import uvloop

    from fleet.messages import EngineFacts
    from fleet.ray.launch import prepare_environment
    from fleet.stock.launch import serve_stock
    from fleet.stock.replica import StockSizes

    prepare_environment(settings.database_url)
    parsed = _checked(arguments, engines=1)
    if parsed.api_key:
        raise UsageError(
            f"--api-key: what the engines ask for is in {_ENGINE_KEY}; what clients need is made "
            "with `adaptry key create`, and asked for with --require-keys"
        )
    if engine_key := os.environ.get(_ENGINE_KEY):
        register_secrets(secrets=[engine_key])
    facts = EngineFacts(
        model=parsed.model,
        served_names=tuple(parsed.served_model_name or [parsed.model]),
        served_modules=None,
        max_rank=parsed.max_lora_rank,
        allowed_origins=tuple(parsed.allowed_origins),
    )
    uvloop.run(
        serve_stock(
            arguments.engines,
            facts,
            StockSizes(parsed.max_loras, parsed.max_cpu_loras),
            _fleet_options(arguments, settings),
            engine_key,
            arguments.host,
            arguments.port,
        )
    )


def _fleet_options(arguments: ServeArguments, settings: RegistrySettings) -> Any:
    from fleet.options import FleetOptions

    folder = Path(arguments.model)
    return FleetOptions(
        model=str(folder.resolve()) if folder.is_dir() else arguments.model,
        vllm=arguments.vllm,
        engine=arguments.settings,
        registry=settings.model_dump(mode="json", exclude={"database_url"}, exclude_unset=True),
        adapters=arguments.adapters,
        allow_untested_vllm=arguments.allow_untested_vllm,
    )


def _checked(arguments: ServeArguments, *, engines: int) -> Any:
    """vLLM's own parse of its arguments. Raises CommandError, UsageError."""
    from engine.vllm import compat as vllm_compat
    from engine.vllm.arguments import BadArgument, parse_engine_arguments, secrets_in

    try:
        vllm_compat.check_version(allow_untested=arguments.allow_untested_vllm)
        vllm_compat.check_internals()
    except vllm_compat.UnsupportedVllm as error:
        raise CommandError(str(error)) from error
    if vllm_compat.is_cpu_build():
        # the server needs a core too: OpenMP threads that spin for one are slower than fewer
        cores = (os.cpu_count() or 2) // (1 + engines)
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
    own = [f"--host={arguments.host}", f"--port={arguments.port}"]
    try:
        parsed = parse_engine_arguments(arguments.model, [*arguments.vllm, *own])
    except BadArgument as error:
        raise UsageError(str(error)) from error
    register_secrets(secrets=secrets_in(parsed))
    return parsed


def _hide_secrets_in_process_list() -> None:
    """Others on this machine see a process's arguments; an environment they don't."""
    from setproctitle import setproctitle

    arguments = shlex.join(sys.argv)
    if (shown := redact(arguments)) != arguments:
        setproctitle(shown)


def _log_as_vllm_does() -> None:
    """In the same lines, to the same place; vLLM sets up its own loggers only."""
    vllms = logging.getLogger("vllm")
    for name in ("adaptry", "engine", "registry"):
        ours = logging.getLogger(name)
        ours.handlers = vllms.handlers
        ours.setLevel(vllms.level)
        ours.propagate = False


async def _serve_engine(arguments: ServeArguments, parsed: Any, listening: socket.socket) -> None:
    from engine.app import run_server
    from engine.bootstrap.registry import register_folders
    from engine.server import serve_forever
    from engine.settings import EngineSettings

    settings = EngineSettings(**arguments.settings)
    async with run_server(parsed, settings, _registry_settings(arguments)) as server:
        await register_folders(server.service, arguments.adapters)
        await serve_forever(server, parsed, listening)


def _registry_settings(arguments: ServeArguments) -> RegistrySettings:
    """The command line over the environment. Folders named on it may be registered from."""
    given: dict[str, Any] = {}
    if arguments.database is not None:
        given["database_url"] = async_url(arguments.database)
    if arguments.store is not None:
        given["store"] = arguments.store
    if arguments.source_urls:
        given["source_urls"] = arguments.source_urls
    if arguments.require_keys is not None:
        given["require_keys"] = arguments.require_keys
    settings = RegistrySettings(**given)
    named = (*arguments.source_roots, *(folder for _, folder in arguments.adapters))
    roots = tuple(root.resolve() for root in (*settings.source_roots, *named))
    return settings.model_copy(update={"source_roots": roots})


def _check_exposure(host: str, settings: RegistrySettings) -> None:
    """Whoever opens a server to others says who may come in. Raises UsageError."""
    if settings.require_keys is None and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from elsewhere: ask for API keys with --require-keys, "
            "or let anybody do everything with --no-require-keys"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before the engine takes a minute."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: else a stream's first
    # token waits 40 ms for the client's kernel to acknowledge the headers
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise CommandError(
            f"port {port} on {host} can't be used ({error.strerror}): "
            "stop what listens there or choose another one with --port"
        ) from error
    return listening


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}"


def _fail(message: str, exit_code: int) -> int:
    print(f"adaptry: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
