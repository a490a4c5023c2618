"""Metrics endpoint: its formats, and that the cache is not read while it changes."""

import gzip
import threading

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette

from engine.cache.snapshot import CacheSnapshot
from engine.telemetry.endpoint import create_metrics_route
from engine.telemetry.metrics import CacheMetrics
from engine.types import Tier

OPEN_METRICS = {
    "accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
}


class Scraped:
    def __init__(self) -> None:
        self.collectors = CollectorRegistry()
        self.metrics = CacheMetrics(self.collectors)
        self.seen_by: list[int] = []
        self.metrics.watch(self._snapshot, lambda: 0)
        Counter("vllm:things", "Of vLLM.", registry=self.collectors).inc(exemplar={"trace_id": "7"})

    def _snapshot(self) -> CacheSnapshot:
        self.seen_by.append(threading.get_ident())
        return CacheSnapshot(2, 4, None, (), (), (), 0, dict.fromkeys(Tier, 0))

    async def get(self, query: str = "", **headers: str) -> httpx.Response:
        route = create_metrics_route(self.collectors, self.metrics.freeze_gauges)
        transport = httpx.ASGITransport(app=Starlette(routes=[route]))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(f"/metrics{query}", headers=headers)


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


async def test_the_cache_is_read_once_for_each_scrape_and_on_its_own_thread(
    scraped: Scraped,
) -> None:
    for _ in range(2):
        assert (await scraped.get()).status_code == 200
    assert scraped.seen_by == [threading.get_ident()] * 2


async def test_both_formats_keep_names_and_one_has_exemplars(scraped: Scraped) -> None:
    plain = await scraped.get(accept="text/plain")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "\nvllm:things_total 1.0\n" in plain.text
    opened = await scraped.get(**OPEN_METRICS)
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert '\nvllm:things_total 1.0 # {trace_id="7"} 1.0' in opened.text
    assert opened.text.endswith("# EOF\n")
    assert "\nadaptry_host_bytes_limit +Inf\n" in opened.text


async def test_only_the_named_series_are_there(scraped: Scraped) -> None:
    found = await scraped.get("?name[]=vllm:things_total&name[]=adaptry_host_bytes_limit")
    series = [line.split()[0] for line in found.text.splitlines() if not line.startswith("#")]
    assert sorted(series) == ["adaptry_host_bytes_limit", "vllm:things_total"]


async def test_it_is_compressed_for_clients_that_accept_gzip(scraped: Scraped) -> None:
    plain = await scraped.get(**{"accept-encoding": "identity"})
    packed = await scraped.get(**{"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    lines = [len(answer.content.splitlines()) for answer in (plain, packed)]
    assert lines[0] == lines[1] > 50, "httpx has unpacked it"
    assert len(gzip.compress(plain.content)) < len(plain.content)
