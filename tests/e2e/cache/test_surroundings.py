"""What fails around a version condemns no version: refusals that end with their cause.

The real engine, over a store that is harmed in place. Damage to the files themselves, which alone
is proof, is in `test_cache.py`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.tasks import TASKS, prompt_for
from engine.engine_fit import EngineFit
from registry.errors import InvalidAdapter
from registry.errors.defects import Defect

pytestmark = [pytest.mark.engine]

A, B, C, *_ = sorted(TASKS)
LONGEST_PAUSE_SECONDS = 8.0

Harm = Callable[[Path], None]


@contextmanager
def away(store: Path, place: Harm) -> Iterator[None]:
    """The store moved aside, and something else in its place."""
    aside = store.with_name("store.away")
    store.rename(aside)
    place(store)
    try:
        yield
    finally:
        if store.is_dir():
            (store / "adapters").rmdir()
            store.rmdir()
        else:
            store.unlink(missing_ok=True)
        aside.rename(store)


def nothing(store: Path) -> None:
    pass


def a_file(store: Path) -> None:
    store.write_bytes(b"")


def an_empty_disk(store: Path) -> None:
    (store / "adapters").mkdir(parents=True)


def states(server: Any) -> set[str]:
    page = server.client.get("/api/v1/versions", params={"limit": 500}).json()
    return {item["state"] for item in page["items"]}


def asked(server: Any, name: str) -> httpx.Response:
    response: httpx.Response = server.complete(name, prompt_for("hello"))
    return response


def assert_refused(response: httpx.Response, code: str) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["error"]["code"] == code
    assert 1 <= int(response.headers["retry-after"]) <= LONGEST_PAUSE_SECONDS


def assert_served_soon(server: Any, name: str) -> None:
    """Within the longest pause between two attempts, without anybody's doing."""
    deadline = time.monotonic() + LONGEST_PAUSE_SECONDS + 5
    while (response := asked(server, name)).status_code == 503:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.2)
    assert response.json()["choices"][0]["text"] == TASKS[name].answer("hello")


def ready(server: Any) -> httpx.Response:
    response: httpx.Response = server.client.get("/readyz")
    return response


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def before(server: Any) -> Iterator[None]:
    """No version changes its state."""
    found = states(server)
    quarantines = [v for k, v in server.metrics().items() if k.startswith("adaptry_quarantines")]
    yield
    assert states(server) == found
    now = [v for k, v in server.metrics().items() if k.startswith("adaptry_quarantines")]
    assert now == quarantines


@pytest.mark.parametrize("place", [nothing, a_file, an_empty_disk])
@pytest.mark.usefixtures("before")
def test_a_store_that_is_away_for_a_moment(server: Any, place: Harm) -> None:
    assert asked(server, B).status_code == 200
    with away(server.state / "store", place):
        for name in (A, C):
            assert_refused(asked(server, name), "store_unavailable")
        assert asked(server, B).headers["x-adaptry-cache"] == "gpu_hit", "it is in memory"
        wait_for(lambda: ready(server).status_code == 503)
        parts = ready(server).json()["parts"]
        assert parts.pop("store").startswith("StoreUnavailable: the store ")
        assert set(parts.values()) == {"ok"}
        why = server.client.get(f"/api/v1/cache/why/{A}").json()
        assert "the store" in why["summary"], why
        restored = server.client.post(f"/api/v1/adapters/{A}/versions/1/restore")
        assert (restored.status_code, restored.json()["code"]) == (503, "store_unavailable")
    assert_served_soon(server, A)
    assert_served_soon(server, C)
    wait_for(lambda: ready(server).status_code == 200)


@pytest.mark.usefixtures("before")
def test_one_version_s_files_are_missing_for_a_moment(server: Any) -> None:
    digest = server.client.get(f"/api/v1/adapters/{A}/versions/1").json()["digest"]
    folder = server.state / "store" / "adapters" / digest[:2] / digest
    aside = folder.with_name("aside")
    folder.rename(aside)
    try:
        assert_refused(asked(server, A), "adapter_files_missing")
        assert asked(server, B).status_code == 200
    finally:
        aside.rename(folder)
    assert_served_soon(server, A)


@pytest.mark.usefixtures("before")
def test_a_smaller_rank_refuses_before_the_load(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is prefetched and pinned. A restart with it is in `tests/faults`."""
    gate = server.server.controller.gate
    reads = server.metrics()['adaptry_decisions_total{kind="load_started"}']
    with monkeypatch.context() as smaller:
        smaller.setattr(gate, "_fit", EngineFit(1))
        for _ in range(2):
            assert_refused(asked(server, A), "rank_too_large")
        for path, body in (("pins", {"tier": "gpu"}), ("prefetch", {})):
            response = server.client.post(f"/api/v1/cache/{path}", json={"reference": A, **body})
            assert (response.status_code, response.json()["code"]) == (503, "rank_too_large")
            assert response.headers["retry-after"]
        assert server.metrics()['adaptry_decisions_total{kind="load_started"}'] == reads
        failures = server.metrics()
        counted = 'adaptry_load_failures_total{cause="rank",transition="disk_to_host"}'
        assert failures[counted] >= 1
    assert_served_soon(server, A)


@pytest.mark.usefixtures("before")
def test_modules_that_this_engine_does_not_serve_are_refused_before_the_load(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misfit(folder: Path) -> InvalidAdapter:
        return InvalidAdapter(Defect.MODULE_NOT_SERVED, "q_proj: not by this engine")

    files = server.server.controller._executor._loader._files
    with monkeypatch.context() as other:
        other.setattr(files, "_find_misfit", misfit)
        files._fitting.clear()
        assert_refused(asked(server, A), "module_not_served")
    assert_served_soon(server, A)
