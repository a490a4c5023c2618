"""Metrics of a scripted sequence of requests on the real engine, counted by hand."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from demo.tasks import TASKS, prompt_for
from engine.telemetry.router_series import NAMES
from tests.support.docs.metrics_page import exported, listed
from tests.support.docs.scrape import scraped

pytestmark = [pytest.mark.engine]

A, B, C, D, E, F = sorted(TASKS)


class Scrapes:
    """How much the counters grew since it was created; current gauges."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._before = self._samples()

    def _samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): float(sample.value)
            for family in scraped(self._server.client)
            for sample in family.samples
        }

    def now(self, name: str, **labels: str) -> float:
        return self._samples()[name, frozenset(labels.items())]

    def has(self, name: str, **labels: str) -> bool:
        return (name, frozenset(labels.items())) in self._samples()

    def grew(self, name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return self._samples()[key] - self._before.get(key, 0.0)


@pytest.fixture
def scrapes(server: Any) -> Scrapes:
    return Scrapes(server)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_every_adapter_s_lookups_evictions_and_times(server: Any, scrapes: Scrapes) -> None:
    """The sequence of test_cache.py, which lists the residents after each step."""
    for name in (A, A, B, C, A, D, E, B):
        assert server.complete(name, prompt_for("hello")).status_code == 200
    grew = scrapes.grew
    expected = {A: (1, 1, 1), B: (0, 0, 2), C: (0, 0, 1), D: (0, 0, 1), E: (0, 0, 1)}
    for adapter, counts in expected.items():
        for result, count in zip(("gpu_hit", "host_hit", "miss"), counts, strict=True):
            lookups = grew("adaptry_adapter_lookups_total", adapter=adapter, result=result)
            assert lookups == count, (adapter, result)
    left = {A: (2, 0), B: (1, 1), C: (1, 1), D: (1, 0), E: (0, 0)}
    for adapter, (gpu, host) in left.items():
        assert grew("adaptry_adapter_evictions_total", adapter=adapter, tier="gpu") == gpu
        assert grew("adaptry_adapter_evictions_total", adapter=adapter, tier="host") == host
    for result, count in (("gpu_hit", 1), ("host_hit", 1), ("miss", 6)):
        assert grew("adaptry_first_token_seconds_count", result=result) == count
        assert grew("adaptry_first_token_seconds_sum", result=result) > 0
    assert grew("adaptry_request_seconds_count", adapter=A) == 3
    assert grew("adaptry_request_seconds_count", adapter=B) == 2
    until(lambda: grew("adaptry_decisions_total", kind="moved_in") == 13)
    for kind, count in (("looked_up", 8), ("load_started", 6), ("evicted", 7), ("drifted", 0)):
        assert grew("adaptry_decisions_total", kind=kind) == count
    assert 0 < scrapes.now("adaptry_thrash_ratio") <= 1, "A came back to a slot, B to memory"


@pytest.mark.parametrize("options", [{}, {"n": 2}, {"stream": True}, {"n": 2, "stream": True}])
def test_tokens_equal_the_usage_reported_to_the_client(
    server: Any, scrapes: Scrapes, options: dict[str, Any]
) -> None:
    body = options | ({"stream_options": {"include_usage": True}} if options.get("stream") else {})
    response = server.complete(A, prompt_for("hello"), **{"temperature": 0.1, **body})
    assert response.status_code == 200, response.text
    usage = _usage(response.text) if options.get("stream") else response.json()["usage"]
    assert usage["completion_tokens"] > 2
    tokens = "adaptry_tokens_total"
    assert scrapes.grew(tokens, adapter=A, kind="prompt") == usage["prompt_tokens"]
    assert scrapes.grew(tokens, adapter=A, kind="generation") == usage["completion_tokens"]
    assert scrapes.grew("adaptry_first_token_seconds_count", result="miss") == 1


def _usage(stream: str) -> dict[str, int]:
    chunks = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    usages: list[dict[str, int]] = [u for c in chunks if (u := json.loads(c).get("usage"))]
    return usages[-1]


def test_several_prompts_of_one_request_and_the_base_model(server: Any, scrapes: Scrapes) -> None:
    body = {"model": A, "prompt": [prompt_for("a"), prompt_for("b")], "max_tokens": 4}
    usage = server.client.post("/v1/completions", json=body).json()["usage"]
    tokens = "adaptry_tokens_total"
    assert scrapes.grew(tokens, adapter=A, kind="prompt") == usage["prompt_tokens"]
    assert scrapes.grew(tokens, adapter=A, kind="generation") == usage["completion_tokens"]
    assert scrapes.grew("adaptry_requests_total", adapter=A, outcome="completed") == 1
    assert scrapes.grew("adaptry_slot_wait_seconds_count") == 1, "they wait in one place"
    assert server.complete("tiny-text-tools", "x").status_code == 200
    assert scrapes.grew(tokens, adapter=A, kind="prompt") == usage["prompt_tokens"]
    assert scrapes.grew("adaptry_slot_wait_seconds_count") == 1, "it needs no slot"


def test_refusals_by_code(server: Any, scrapes: Scrapes) -> None:
    assert server.complete("nobody-knows-me", "x").status_code == 404
    assert server.complete("not a name!", "x").status_code == 404
    refusals = "adaptry_refusals_total"
    assert scrapes.grew(refusals, code="model_not_found") == 2
    assert scrapes.grew("adaptry_requests_total", adapter="_unknown", outcome="refused") == 2


def test_the_gauges_are_those_of_this_server(server: Any, scrapes: Scrapes) -> None:
    server.client.post("/api/v1/cache/pins", json={"reference": A, "tier": "gpu"})
    server.complete(B, prompt_for("x"))
    assert scrapes.now("adaptry_pin_budget", tier="gpu") == 1
    assert scrapes.now("adaptry_pin_budget", tier="host") == 3
    assert scrapes.now("adaptry_host_capacity") == 4
    assert scrapes.now("adaptry_oldest_wait_seconds") == 0
    names = {r["reference"]: r for r in server.client.get("/api/v1/cache").json()["gpu"]}
    for reference, resident in names.items():
        labels = {"level": "gpu", "rank": str(resident["rank"])}
        labels["pinned"] = "true" if resident["pinned"] else "false"
        assert scrapes.now("vllm:lora_adapter_loaded", adapter_name=reference, **labels) == 1
    assert len(names) == 2


def test_the_registry_s_series_are_there(server: Any, scrapes: Scrapes) -> None:
    until(lambda: scrapes.has("adaptry_registry_adapters"))
    until(lambda: scrapes.now("adaptry_registry_adapters") >= len(TASKS))
    assert scrapes.now("adaptry_database_up") == 1
    assert scrapes.now("adaptry_registry_versions", state="ready") >= len(TASKS)
    assert scrapes.now("adaptry_store_bytes") > 0
    assert scrapes.now("adaptry_ingest_ended_total", outcome="succeeded") >= len(TASKS)
    server.complete(A, prompt_for("x"))
    until(lambda: scrapes.grew("adaptry_database_seconds_count", operation="read") > 0)
    until(lambda: scrapes.has("adaptry_alias_version", adapter=A, alias="default"))
    assert scrapes.now("adaptry_alias_version", adapter=A, alias="default") >= 1


def test_a_server_exports_what_the_page_lists(server: Any) -> None:
    server.complete(A, prompt_for("x"))
    until(lambda: "adaptry_alias_version" in exported(scraped(server.client)))
    names = exported(scraped(server.client)).keys()
    of_codes = {"adaptry_rejections_total", "adaptry_quarantines_total", "adaptry_refusals_total"}
    of_tenants = {"adaptry_tenant_rate_used_ratio"}
    of_servers = {each.name for each in listed() if not each.name.startswith("adaptry_guest_")}
    assert names <= of_servers
    assert of_servers - names <= of_codes | of_tenants, "there may be none yet"


def test_the_plain_format_and_compression_are_as_requested(server: Any) -> None:
    plain = server.client.get("/metrics", headers={"accept-encoding": "identity"})
    assert plain.headers["content-type"].startswith("text/plain")
    assert "content-encoding" not in plain.headers
    assert "vllm:num_requests_running" in plain.text
    assert "adaptry_build_info{" in plain.text
    packed = server.client.get("/metrics", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text.count("\n") == plain.text.count("\n")


def test_routers_read_the_current_adapters_in_slots_only(server: Any) -> None:
    """vLLM's own gauge has a series of each combination of adapters that ever ran."""
    for name in (A, B, C, D):
        assert server.complete(name, prompt_for("hello")).status_code == 200
    in_slots = f'running_lora_adapters="{C}:1,{C},{D}:1,{D}"'
    until(lambda: in_slots in server.client.get("/metrics").text)  # names are read once a second
    page = server.client.get("/metrics").text
    assert page.count("\nvllm:lora_requests_info{") == 1
    labels = f'engine="0",model_name="{server.client.get("/v1/models").json()["data"][0]["id"]}"'
    assert f"\nvllm:max_gpu_lora_adapters{{{labels}}} 2.0\n" in page
    assert f"\nvllm:num_gpu_loaded_lora_adapters{{{labels}}} 2.0\n" in page
    for family in NAMES:
        assert len(re.findall(rf"^# TYPE {family}(_total)? ", page, re.MULTILINE)) == 1, family
