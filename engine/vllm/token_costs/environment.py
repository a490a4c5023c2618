"""Environment of vLLM's variables, which a process that serves reads once.

vLLM looks one up for each token. Its engine's process keeps what it has read, its server does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vllm import envs

_servers: list[None] = []  # of this process


@contextmanager
def environment_read_once() -> Iterator[None]:
    """While any server of this process has an engine: vLLM asks that no variable change then."""
    _servers.append(None)
    envs.enable_envs_cache()
    try:
        yield
    finally:
        _servers.pop()
        if not _servers:
            envs.disable_envs_cache()
