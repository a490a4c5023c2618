"""`adaptry serve`: checks what can be checked before the engine starts, then serves."""

import os
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from adaptry.serve.adapter_folders import linked_files
from adaptry.serve.arguments import ServeArguments, parse, parser
from adaptry.serve.modes import serve_engine, serve_replicas, serve_stock_engines
from adaptry.serve.option_types import is_loopback
from adaptry.serve.preflight import (
    check_compiler,
    check_engine,
    check_model,
    check_socket_folders,
)
from adaptry.terminal.errors import CommandError, UsageError
from engine.unfit_packages import hide_unfit_packages
from registry.database.urls import async_url
from registry.errors import RegistryError
from registry.redaction import (
    hide_secrets_in_logs,
    redact,
    register_process_secrets,
)
from registry.settings import RegistrySettings
from registry.validation import explain


def run(argv: Sequence[str]) -> int:
    """Serve until stopped; returns the exit code. Errors are one line on standard error."""
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
    if not arguments.engines:  # theirs may be on another machine
        check_model(arguments.model)
        check_socket_folders(with_ray=arguments.replicas is not None)
    _check_reserved(arguments.vllm)
    listening = _listen(arguments.host, arguments.port)
    check_compiler(check_engine(), eager="--enforce-eager" in arguments.vllm)
    hide_unfit_packages()
    _hide_secrets_in_process_list()
    _name_service()
    signal.signal(signal.SIGTERM, _interrupt)  # until the HTTP server has its own handlers
    if arguments.engines:
        listening.close()  # it is free: uvicorn takes it
        serve_stock_engines(arguments, settings)
        return
    if arguments.replicas is not None:
        listening.close()  # it is free: Ray's proxy takes it
        serve_replicas(arguments, settings, arguments.replicas)
        return
    with listening:
        serve_engine(arguments, settings, listening)


def _check_reserved(vllm: Sequence[str]) -> None:
    """Raises UsageError."""
    from engine.vllm.arguments import BadArgument, refuse_reserved

    try:
        refuse_reserved(vllm)
    except BadArgument as error:
        raise UsageError(str(error)) from error


def _hide_secrets_in_process_list() -> None:
    """Redact the process title: other users can read arguments, unlike the environment."""
    from setproctitle import setproctitle

    arguments = shlex.join(sys.argv)
    if (shown := redact(arguments)) != arguments:
        setproctitle(shown)


def _name_service() -> None:
    """What traces call this server, in all its processes, unless the environment says otherwise."""
    if "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        os.environ.setdefault("OTEL_SERVICE_NAME", "adaptry")


def _registry_settings(arguments: ServeArguments) -> RegistrySettings:
    """The command line over the environment. Its folders become source roots too."""
    from registry.servers import default_server_id  # with SQLAlchemy, once all options are right

    given: dict[str, Any] = {}
    if arguments.database is not None:
        given["database_url"] = async_url(arguments.database)
    if arguments.base_id is not None:
        given["base_id"] = arguments.base_id
    if arguments.server_id is not None:
        given["server_id"] = arguments.server_id
    if arguments.store is not None:
        given["store"] = arguments.store
    if arguments.source_urls:
        given["source_urls"] = arguments.source_urls
    if arguments.require_keys is not None:
        given["require_keys"] = arguments.require_keys
    settings = RegistrySettings(**given)
    named = (*arguments.source_roots, *(folder for _, folder in arguments.adapters))
    roots = [root.resolve() for root in (*settings.source_roots, *named)]
    roots += linked_files(arguments.adapters)
    server_id = settings.server_id or default_server_id(settings.database_url, arguments.port)
    return settings.model_copy(update={"source_roots": tuple(roots), "server_id": server_id})


def _check_exposure(host: str, settings: RegistrySettings) -> None:
    """A server that others can reach must decide on API keys. Raises UsageError."""
    if settings.require_keys is None and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines: require API keys with --require-keys, "
            "or allow everything to anyone with --no-require-keys"
        )


def _listen(host: str, port: int) -> socket.socket:
    """Bind the port now: the engine takes a minute to start."""
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
    return f"setting {'.'.join(map(str, first['loc']))}: {explain(first)}"


def _fail(message: str, exit_code: int) -> int:
    print(f"adaptry: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
