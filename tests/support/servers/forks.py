"""Forks of a process that has imported what tests run in processes of their own and kill."""

import multiprocessing
import multiprocessing.util
import tempfile
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

_SHORT = "/tmp"  # TMPDIR may be longer than a socket's path, which is 107 bytes


def forked_process(
    target: Callable[..., object], arguments: tuple[Any, ...], *, daemon: bool = False
) -> ForkServerProcess:
    """Not started yet."""
    return _forks().Process(target=target, args=arguments, daemon=daemon)


@cache
def _forks() -> ForkServerContext:
    before, tempfile.tempdir = tempfile.tempdir, _SHORT
    try:
        multiprocessing.util.get_temp_dir()  # is kept: its server's socket will be there
    finally:
        tempfile.tempdir = before
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            f"tests.support.servers.{name}"
            for name in ("crashing_worker", "killed_upgrade", "registry_app_process")
        ]
    )
    return context
