"""Scheduling: which process runs which tests, so that no core idles while another has a queue.

Files that share one engine, or servers, run in one process, one after the other. A file with the
mark `engine` shares the session's engine (those of tests/contract and tests/browser have one for
each folder, since all on one would take longer than everything else); `servers("faults")` shares
what the others of that name share, `servers("forked")` and `servers("bases")` the process that
their servers are forked from, `servers("site")` the built documentation; `servers` alone starts its
own and runs beside anything.
"""

import re
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[2]
MAX_PROCESSES = 5
OWN_ENGINE = ("browser", "contract")
# What takes longest begins first: a long one that begins last runs alone.
SERVERS = (
    "engine",
    "fleet",
    "forked",
    "contract",
    "bases",
    "browser",
    "faults",
    "tests/e2e/docs/test_deployed.py",
    "tests/e2e/docs/test_demo_command.py",
    "tests/e2e/security/test_secret_leaks.py",
    "site",
    "tests/e2e/docs/test_wheel.py",
)
OTHERS = (
    "tests/api/robustness/test_fuzzed_adapters.py",
    "tests/docs/test_registry_pages.py",
    "tests/api/robustness/test_fuzzed_api.py",
    "tests/db/test_upgrades.py",
    "tests/api/transfer/test_transfer.py",
    "tests/api/webhooks/test_webhook_delivery.py",
    "tests/api/ingest/test_ingest_jobs.py",
    "tests/api/ingest/test_ingest_crashes.py",
    "tests/api/transfer/test_import_mlflow.py",
    "tests/api/transfer/test_transfer_crashes.py",
    "tests/browser/test_console_table.py",
    "tests/browser/test_console_reach.py",
    "tests/browser/test_console_accessible_pages.py",
)

_GROUP = re.compile(r'mark\.servers\("(\w+)"\)')


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """By group, the longest first.

    xdist 3.8's own groups are lost with pytest 9.2, which keeps the names of tests elsewhere.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])

    def _assign_work_unit(self, node: Any) -> None:
        """Of three processes or more, one begins with what has no engine: they take the cores."""
        light = len(self.nodes) > 2 and node is self.nodes[-1]
        chosen = min(self.workqueue, key=_servers_last if light else _servers_first)
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)


def _servers_first(group: str) -> int:
    return SERVERS.index(group) if group in SERVERS else len(SERVERS)


def _servers_last(group: str) -> int:
    """The shortest of them first: the longest are the others' by then."""
    if group in SERVERS:
        return len(OTHERS) + len(SERVERS) - SERVERS.index(group)
    return OTHERS.index(group) if group in OTHERS else len(OTHERS)


@cache
def group_of(file: str) -> str:
    text = (ROOT / file).read_text(encoding="utf-8")
    if "mark.engine" in text:
        folder = file.split("/")[1]
        return folder if folder in OWN_ENGINE else "engine"
    group = _GROUP.search(text)
    return group[1] if group else file


_GROUP_END = pytest.StashKey[ExitStack]()


@pytest.fixture(scope="session")
def group_end(pytestconfig: pytest.Config) -> ExitStack:
    """Left after the last test of the group in this process, or of the session.

    pytest has no scope for it (a package is a folder with an `__init__.py`), and servers that
    wait for the end of the session take the cores from other tests.
    """
    return pytestconfig.stash.setdefault(_GROUP_END, ExitStack())


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or (
        _is_distributed(item.config) and _file_group(item) != _file_group(nextitem)
    ):
        item.config.stash.get(_GROUP_END, ExitStack()).close()


def _is_distributed(config: pytest.Config) -> bool:
    """Only then is a group in one piece."""
    return hasattr(config, "workerinput")


def _file_group(item: pytest.Item) -> str:
    return group_of(item.nodeid.partition("::")[0])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three processes more than cores: many tests wait for servers and for clocks."""
    return min((psutil.cpu_count() or 1) + 3, MAX_PROCESSES)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)
