"""Forks of a process that has imported what tests run in processes of their own and kill."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        f"tests.support.servers.{name}"
        for name in ("crashing_worker", "killed_upgrade", "registry_app_process")
    ]
)
