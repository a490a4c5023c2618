"""vLLM's command-line arguments: passed through unchanged, save the few that cache control owns."""

import os
from argparse import Namespace
from collections.abc import Sequence

from engine import vllm_api

DEFAULT_SLOTS = 4
HOST_ADAPTERS_PER_SLOT = 4

_REFUSED = {
    "--lora-modules": "register adapters over REST, or name their folders with --lora-path",
    "--worker-extension-cls": "it carries our cache control",
    "--headless": "one server holds the only cache controller",
    "--grpc": "only the HTTP server is controlled",
}


class BadArgument(Exception):
    """An argument that can't be served; the message is one line for the person who gave it."""


def parse_engine_arguments(model: str, arguments: Sequence[str]) -> Namespace:
    """vLLM's own parse of `MODEL ARGUMENTS…`, with LoRA on and our worker extension in.

    Raises BadArgument. vLLM's parser itself ends the process with a line on standard error for an
    argument that it does not know.
    """
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name in _REFUSED:
            raise BadArgument(f"{name} can't be used with adaptry serve: {_REFUSED[name]}")
    parsed: Namespace = vllm_api.argument_parser().parse_args([model, *_with_defaults(arguments)])
    parsed.model = parsed.model_tag
    if (parsed.api_server_count or 1) > 1:
        raise BadArgument("--api-server-count must be 1: one process holds the cache controller")
    if parsed.data_parallel_size > 1:
        raise BadArgument("--data-parallel-size must be 1: start one server per replica instead")
    parsed.api_server_count = 1
    parsed.enable_lora = True
    parsed.worker_extension_cls = "engine.worker.AdapterCacheExtension"
    parsed.enable_offline_docs = not parsed.disable_fastapi_docs
    vllm_api.validate_arguments()(parsed)
    return parsed


def _with_defaults(arguments: Sequence[str]) -> list[str]:
    """vLLM's own defaults (one slot, a host tier no larger) leave nothing to control."""
    given: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        given[name.replace("_", "-")] = value if equals else following
    complete = list(arguments)
    if "--max-loras" not in given:
        complete.append(f"--max-loras={DEFAULT_SLOTS}")
    if "--max-cpu-loras" not in given:
        slots = given.get("--max-loras", str(DEFAULT_SLOTS))
        if slots.isdigit():
            complete.append(f"--max-cpu-loras={int(slots) * HOST_ADAPTERS_PER_SLOT}")
    if "--host" not in given:
        complete.append("--host=127.0.0.1")
    return complete


def prefer_one_worker_process(parsed: Namespace) -> None:
    """On the CPU build host the only worker in the engine's process: it starts in half the time."""
    on_cpu = vllm_api.is_cpu_build()
    ranks = parsed.tensor_parallel_size * parsed.pipeline_parallel_size
    if on_cpu and ranks == 1 and parsed.distributed_executor_backend is None:
        parsed.distributed_executor_backend = "uni"
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
