"""Process setup of a fleet: logging without secrets, and vLLM's arguments."""

import logging
import sys
from argparse import Namespace
from collections.abc import Sequence

from engine.unfit_packages import hide_unfit_packages
from fleet.options import FleetOptions
from registry.redaction import hide_secrets_in_logs, register_process_secrets, register_secrets

logger = logging.getLogger(__name__)

_FORMAT = "%(levelname)s %(asctime)s [%(name)s] %(message)s"


def begin_process(options: FleetOptions) -> None:
    """Log to standard error, which Ray shows and stores, with secrets redacted.

    Before vLLM is imported.
    """
    hide_unfit_packages()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    for name in ("engine", "registry", "fleet"):
        ours = logging.getLogger(name)
        ours.handlers = [handler]
        ours.setLevel(logging.INFO)
        ours.propagate = False
    register_process_secrets(options.registry_settings().database_url)
    hide_secrets_in_logs()


def engine_arguments(options: FleetOptions, given: Sequence[str] | None = None) -> Namespace:
    """vLLM's own parse of its arguments: those of all engines, or these.

    Raises BadArgument, UnsupportedVllm.
    """
    from engine.vllm import compat as vllm_compat
    from engine.vllm.arguments import (
        parse_engine_arguments,
        prefer_one_worker_process,
        secrets_in,
    )
    from engine.vllm.option_files.plugins import import_parsers

    version = vllm_compat.check_version(allow_untested=options.allow_untested_vllm)
    vllm_compat.check_internals()
    if remark := vllm_compat.untested_remark(version):
        logger.warning("%s", remark)
    arguments = parse_engine_arguments(options.model, options.vllm if given is None else given)
    register_secrets(secrets=secrets_in(arguments))
    import_parsers(arguments)
    prefer_one_worker_process(arguments)
    return arguments


def fleet_rank(options: FleetOptions) -> int:
    """The largest rank that any of the engines serves. Raises BadArgument."""
    from engine.vllm.arguments import parse_engine_arguments

    found = (parse_engine_arguments(options.model, each) for each in options.arguments_in_use())
    return max(int(arguments.max_lora_rank) for arguments in found)


def gpus_of(options: FleetOptions) -> float:
    """The GPUs that Ray reserves for one replica, whichever of the classes it will be of."""
    from engine.vllm import compat as vllm_compat

    if options.gpus_per_replica is not None:
        return options.gpus_per_replica
    if vllm_compat.is_cpu_build():
        return 0
    found = (engine_arguments(options, given) for given in options.arguments_in_use())
    return float(max(each.tensor_parallel_size * each.pipeline_parallel_size for each in found))
