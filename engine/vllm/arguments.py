"""vLLM's command-line arguments: passed through unchanged but for those that cache control sets."""

import logging
import os
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from engine.vllm import compat as vllm_compat

logger = logging.getLogger(__name__)

NOT_HEEDED = {
    # vLLM's own routes would load any folder that a client names, without any of our checks
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "register adapters instead",
    # the base model would answer for any name that a route of vLLM reads where we don't
    "VLLM_SKIP_MODEL_NAME_VALIDATION": "an unknown name is answered with 404",
}
"""Variables of vLLM, and what holds in their place."""

DEFAULT_SLOTS = 4
HOST_ADAPTERS_PER_SLOT = 4
WORKER_EXTENSION = "engine.worker.extension.AdapterCacheExtension"

_REFUSED = {
    "--lora-modules": "register adapters over REST, or name their folders with --lora-path",
    "--default-mm-loras": "it would load adapters past the cache controller",
    "--no-enable-lora": "adapters are what it serves",
    "--worker-extension-cls": "it carries our cache control",
    "--headless": "one server holds the only cache controller",
    "--grpc": "only the HTTP server is controlled",
    "--uds": "it listens on --host and --port",
    "--config": "put its lines under `vllm:` in a file for --profile",
}


class BadArgument(Exception):
    """An argument that can't be used; the message is one line for the operator."""


def parse_engine_arguments(model: str, arguments: Sequence[str]) -> Namespace:
    """vLLM's own parse of `MODEL ARGUMENTS…`, with LoRA on and our worker extension in.

    Raises BadArgument.
    """
    refuse_reserved(arguments)
    _unset_variables()
    parsed = _parse_as_vllm(model, arguments)
    parsed.model = parsed.model_tag
    if parsed.api_server_count not in (None, 1):
        raise BadArgument("--api-server-count must be 1: one process holds the cache controller")
    if parsed.data_parallel_size > 1:
        raise BadArgument("--data-parallel-size must be 1: start one server per replica instead")
    parsed.api_server_count = 1
    if parsed.log_error_stack:
        logger.warning("--log-error-stack is not heeded: it logs what is refused, prompts included")
        parsed.log_error_stack = False
    parsed.enable_lora = True
    parsed.worker_extension_cls = WORKER_EXTENSION
    parsed.enable_offline_docs = not parsed.disable_fastapi_docs
    if parsed.max_cpu_loras is None:
        parsed.max_cpu_loras = parsed.max_loras * HOST_ADAPTERS_PER_SLOT
    return parsed


def secrets_in(parsed: Namespace) -> list[str]:
    """What the arguments hold that no log may show."""
    given = (parsed.hf_token, *(parsed.api_key or ()))
    return [secret for secret in given if isinstance(secret, str)]


def http_options(parsed: Namespace) -> dict[str, Any]:
    """What vLLM's HTTP server gets of them, as `vllm serve` passes it."""
    log_config = vllm_compat.log_config()(parsed)
    names = (
        *("host", "port", "ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_cert_reqs"),
        *("ssl_ciphers", "enable_ssl_refresh"),
        *("h11_max_incomplete_event_size", "h11_max_header_count"),
    )
    return {
        **{name: getattr(parsed, name) for name in names},
        "log_level": parsed.uvicorn_log_level,
        "access_log": not parsed.disable_uvicorn_access_log,
        "timeout_keep_alive": vllm_compat.keep_alive_seconds(),
        **({} if log_config is None else {"log_config": log_config}),
    }


def refuse_reserved(arguments: Sequence[str]) -> None:
    """What cache control sets itself, or can't see. Needs no vLLM. Raises BadArgument."""
    for argument in arguments:
        name = argument.partition("=")[0].partition(".")[0].replace("_", "-")
        if name in _REFUSED:
            raise BadArgument(f"{name} can't be used with adaptry serve: {_REFUSED[name]}")


def _unset_variables() -> None:
    for name, instead in NOT_HEEDED.items():
        if os.environ.pop(name, None) is not None:
            logger.warning("%s is not heeded: %s", name, instead)


def _parse_as_vllm(model: str, arguments: Sequence[str]) -> Namespace:
    """Other defaults: vLLM's one slot and a host tier no larger would leave nothing to control."""
    parser, validate = vllm_compat.argument_parser(), vllm_compat.validate_arguments()
    # vLLM's default lets the pages of any site read responses
    parser.set_defaults(max_loras=DEFAULT_SLOTS, host="127.0.0.1", allowed_origins=[])
    parser.set_defaults(enable_prompt_tokens_details=True)  # how much a shared prefix has saved
    parser.allow_abbrev = False  # `--lora-mod` would not be refused
    parser.error = _refuse  # instead of ending the process with its usage
    try:
        parsed: Namespace = parser.parse_args([model, *arguments])
        validate(parsed)
    except BadArgument:
        raise
    except IndexError as error:  # `--compilation-config.mode` at the end
        raise BadArgument(f"argument {arguments[-1]}: expected one argument") from error
    except Exception as error:  # each of vLLM's checks raises its own type
        raise BadArgument(_one_line(str(error))) from error
    return parsed


def _refuse(message: str) -> NoReturn:
    raise BadArgument(_one_line(message))


def _one_line(message: str) -> str:
    return " ".join(message.removeprefix("Error: ").split())


def prefer_one_worker_process(parsed: Namespace) -> None:
    """On the CPU build run a single worker in the engine's process: it starts in half the time."""
    on_cpu = vllm_compat.is_cpu_build()
    ranks = parsed.tensor_parallel_size * parsed.pipeline_parallel_size
    if on_cpu and ranks == 1 and parsed.distributed_executor_backend is None:
        parsed.distributed_executor_backend = "uni"
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
