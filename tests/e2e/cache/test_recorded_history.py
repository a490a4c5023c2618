"""History of the cache on the real engine: past moments and decisions are the controller's own."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from demo.tasks import TASKS, prompt_for
from engine.history.counts import WAIT_SECONDS

pytestmark = [pytest.mark.engine]

A, B, C, D, E, _ = sorted(TASKS)
STEP_SECONDS = 0.4  # apart, as 20 decisions of a second are recorded one by one
Held = tuple[dict[str, int], set[str]]
"""The slot of each reference, and what is in host memory."""


def held(cache: dict[str, Any]) -> Held:
    slots = {each["reference"]: each["slot"] for each in cache["gpu"]}
    return slots, {each["reference"] for each in cache["host"]}


def read(server: Any, path: str, **query: Any) -> Any:
    response = server.client.get(f"/api/v1/cache/{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def now() -> str:
    return datetime.now(UTC).isoformat()


def past(server: Any, at: str) -> Any:
    found = read(server, "history/state", at=at)
    assert found["cache"] is not None, found["unknown"]
    return found["cache"]


@pytest.fixture
def decided(server: Any) -> tuple[str, int]:
    """When the test began, and the controller's last decision then."""
    time.sleep(1.1)  # what the test before did is of another second
    return now(), read(server, "decisions")["newest_id"]


def is_recorded(decision: dict[str, Any]) -> bool:
    """Hits that did not wait are counted only."""
    waited: bool = (decision["seconds"] or 0) >= WAIT_SECONDS
    return decision["outcome"] != "gpu_hit" or waited


def test_what_was_in_the_slots_and_who_evicted_whom_is_what_the_controller_did(
    server: Any, decided: tuple[str, int]
) -> None:
    began, newest = decided
    moments: list[tuple[str, Held]] = []
    for name in (A, B, C, A, D, E, B):
        assert server.complete(name, prompt_for("hello")).status_code == 200
        time.sleep(STEP_SECONDS)
        moments.append((now(), held(server.client.get("/api/v1/cache").json())))
    for at, truth in moments:
        assert held(past(server, at)) == truth, at
    own = [each for each in read(server, "decisions", after=newest)["items"] if is_recorded(each)]
    recorded = read(server, "history/decisions", **{"from": began, "limit": 1000})
    told = [(each["kind"], each["reference"], each["sentence"]) for each in recorded["items"]]
    assert told == [(each["kind"], each["reference"], each["sentence"]) for each in own]
    assert recorded["more"] == []
    evicted = [each for each in recorded["items"] if each["kind"] == "evicted"]
    assert len(evicted) >= 5
    for each in evicted:  # who had the slot before, and who has it after
        if each["tier"] == "gpu":
            moment = datetime.fromisoformat(each["at"])
            (slots, _), *_ = [truth for at, truth in moments if datetime.fromisoformat(at) > moment]
            assert slots[each["for_reference"]] == each["slot"]


def test_who_waited_is_who_the_controller_let_wait(server: Any, decided: tuple[str, int]) -> None:
    _, newest = decided
    prompt = prompt_for("hello")
    hold = partial(server.complete, prompt=prompt, max_tokens=200, ignore_eos=True)
    with ThreadPoolExecutor(3) as pool:
        holding = [pool.submit(hold, name) for name in (A, B)]
        deadline = time.monotonic() + 20
        while sum(each["leases"] for each in server.client.get("/api/v1/cache").json()["gpu"]) < 2:
            assert time.monotonic() < deadline, "both slots were never leased"
        waiting = pool.submit(server.complete, C, prompt)
        for each in (*holding, waiting):
            assert each.result().status_code == 200
    [looked_up] = [
        each
        for each in read(server, "decisions", after=newest)["items"]
        if each["kind"] == "looked_up" and each["adapter"] == C
    ]
    seconds = looked_up["seconds"]
    assert seconds > 0.05, "it waited for a slot"
    until = datetime.fromisoformat(looked_up["at"]).timestamp()
    middle = datetime.fromtimestamp(until - seconds / 2, UTC).isoformat()
    then = past(server, middle)
    [wait] = [each for each in then["waits"] if each["reference"] == looked_up["reference"]]
    assert wait["seconds"] == pytest.approx(seconds, abs=0.01)
    assert {each["adapter"] for each in then["gpu"]} == {A, B}
