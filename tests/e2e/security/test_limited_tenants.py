"""A real server that holds a tenant to its limits, and lets the other one be.

Where requests have to be under way for a while, the engine's process is stopped meanwhile.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import openai
import pytest

from adaptry.cli import main
from adaptry.client import ApiError, Client
from tests.support.servers.adaptry_serve import ROOT, ServedDemo

pytestmark = [pytest.mark.servers("forked")]

ANSWERS = {"upper": "HELLO", "reverse": "olleh"}
EVERY_LIMIT = (
    "max_requests_in_flight",
    "max_slots",
    "max_host_bytes",
    "max_pins",
    "max_storage_bytes",
    "max_registrations_per_hour",
    "max_requests_per_minute",
    "max_tokens_per_minute",
    "max_bytes_per_minute",
)


@dataclass
class Limited:
    """The tenants `acme` and `zeta` have the same adapters, and a key each."""

    served: ServedDemo
    root: Client
    root_key: str
    keys: dict[str, str]

    @property
    def url(self) -> str:
        return str(self.served.client.base_url)

    def ask(self, tenant: str, adapter: str) -> str:
        key = self.keys[tenant]
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0) as client:
            answer = client.completions.create(
                model=f"{tenant}~{adapter}", prompt="hello=", max_tokens=16, temperature=0
            )
        return str(answer.choices[0].text)

    def usage(self, tenant: str, what: str) -> int:
        return int(getattr(self.root.tenants.get(tenant).usage, what))

    @contextmanager
    def limits(self, tenant: str, **limits: int) -> Iterator[None]:
        self.root.tenants.change(tenant, **limits)
        yield
        self.root.tenants.change(tenant, **dict.fromkeys(EVERY_LIMIT))

    @contextmanager
    def stopped_engine(self) -> Iterator[None]:
        engine = self.served.engine_process()
        engine.suspend()
        try:
            yield
        finally:
            engine.resume()

    def metrics(self) -> str:
        bearer = {"authorization": f"Bearer {self.root_key}"}
        return httpx.get(f"{self.url}/metrics", headers=bearer, timeout=60).text


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    served = ServedDemo(tmp_path_factory.mktemp("limits"), require_keys="true")
    database = f"sqlite:///{served.folder}/registry.db"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *texts, **_: printed.append(str(texts[0])))
        assert main(["key", "create", "root", "--scope", "admin", "--database", database]) == 0
    served.start()
    try:
        with Client(str(served.client.base_url), api_key=printed[-1]) as root:
            keys = {}
            for tenant in ("acme", "zeta"):
                root.tenants.create(tenant)
                keys[tenant] = root.keys.create(f"{tenant}~boss", ["admin"]).key
                for name in ANSWERS:
                    folder = ROOT / "demo" / "adapters" / name
                    root.versions.register(f"{tenant}~{name}", str(folder))
            yield Limited(served, root, printed[-1], keys)
    finally:
        served.stop()
        served.client.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_requests_in_flight_are_counted_for_each_tenant(
    limited: Limited, threads: ThreadPoolExecutor
) -> None:
    limited.ask("acme", "upper")
    limited.ask("zeta", "upper")
    with limited.limits("acme", max_requests_in_flight=1):
        with limited.stopped_engine():
            first = threads.submit(limited.ask, "acme", "upper")
            until(lambda: limited.usage("acme", "requests_in_flight") == 1)
            with pytest.raises(openai.RateLimitError) as refused:
                limited.ask("acme", "upper")
            others = [threads.submit(limited.ask, "zeta", "upper") for _ in range(2)]
            until(lambda: limited.usage("zeta", "requests_in_flight") == 2)
        assert {each.result() for each in (first, *others)} == {"HELLO"}
        assert limited.ask("acme", "upper") == "HELLO"
    assert refused.value.code == "tenant_limit"
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert limited.usage("acme", "requests_in_flight") == 0


def test_a_tenants_second_adapter_waits_and_takes_no_place_from_others(
    limited: Limited, threads: ThreadPoolExecutor
) -> None:
    limited.ask("acme", "upper")
    limited.ask("zeta", "upper")
    asked: dict[str, Future[str]] = {}
    with limited.limits("acme", max_slots=1):
        with limited.stopped_engine():
            asked["first"] = threads.submit(limited.ask, "acme", "upper")
            until(lambda: limited.usage("acme", "slots") == 1)
            asked["second"] = threads.submit(limited.ask, "acme", "reverse")
            until(lambda: limited.usage("acme", "requests_in_flight") == 2)
            asked["other"] = threads.submit(limited.ask, "zeta", "upper")
            until(lambda: limited.usage("zeta", "slots") == 1)
            assert limited.usage("acme", "slots") == 1
            assert limited.root.cache.show().waiting == 0
        assert asked["first"].result() == asked["other"].result() == "HELLO"
        assert asked["second"].result() == "olleh"
    assert limited.usage("acme", "slots") == 0


def test_a_tenants_own_adapters_make_room_in_host_memory(limited: Limited) -> None:
    for tenant in ("acme", "zeta"):
        for adapter, answer in ANSWERS.items():
            assert limited.ask(tenant, adapter) == answer
    one = max(resident.host_bytes for resident in limited.root.cache.show().host)
    with limited.limits("acme", max_host_bytes=one):
        until(lambda: limited.usage("acme", "host_bytes") <= one)
        for adapter in ("reverse", "upper", "reverse"):
            assert limited.ask("acme", adapter) == ANSWERS[adapter]
            assert limited.usage("acme", "host_bytes") <= one
    host = [resident.reference for resident in limited.root.cache.show().host]
    assert {"zeta~upper:1", "zeta~reverse:1"} < set(host)
    evictions = 'adaptry_cache_evictions_total{reason="tenant_limit",tier="host"} '
    assert float(limited.metrics().partition(evictions)[2].split()[0]) >= 2
    with limited.limits("acme", max_host_bytes=1), pytest.raises(openai.ConflictError) as refused:
        limited.ask("acme", "upper")
    assert refused.value.code == "tenant_limit"


def test_rates_have_openais_headers_and_tokens_are_the_engines_own(limited: Limited) -> None:
    def counted(series: str) -> float:
        return float(limited.metrics().partition(f"{series} ")[2].split()[0])

    def tokens() -> float:
        kinds = ("generation", "prompt")
        return sum(
            counted(f'adaptry_tenant_tokens_total{{kind="{kind}",tenant="zeta"}}') for kind in kinds
        )

    def generate(http: httpx.Client, stream: bool) -> tuple[int, int]:
        """Tokens that were left before its estimate was taken, and tokens that were used."""
        body = {"model": "zeta~upper", "prompt": "hello=", "max_tokens": 16, "stream": stream}
        options = {"stream_options": {"include_usage": True}} if stream else {}
        answer = http.post("/completions", json=body | options)
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        whole = answer.text.split("data: ")[-2] if stream else answer.text
        estimate = len(answer.request.content) // 4 + 16
        return left + estimate, json.loads(whole)["usage"]["total_tokens"]

    limited.ask("zeta", "upper")
    before = tokens(), counted('adaptry_tenant_slot_seconds_total{tenant="zeta"}')
    until(lambda: time.time() % 60 < 30)  # else the sums are split over two minutes
    key, url = limited.keys["zeta"], f"{limited.url}/v1"
    with (
        limited.limits("zeta", max_tokens_per_minute=1000, max_requests_per_minute=4),
        openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60) as http,
    ):
        first = generate(http, stream=False)
        streamed = generate(http, stream=True)
        used = first[1] + streamed[1]  # counted after the last token has gone out
        until(lambda: tokens() >= before[0] + used)
        last = generate(http, stream=False)
        with pytest.raises(openai.RateLimitError) as too_much:
            client.completions.create(model="zeta~upper", prompt="x", max_tokens=1001)
        with pytest.raises(openai.RateLimitError) as too_often:
            client.models.list()
    assert first[0] == 1000
    assert streamed[0] == 1000 - first[1], "an estimate is replaced by the engine's count"
    assert last[0] == streamed[0] - streamed[1]
    assert {too_much.value.code, too_often.value.code} == {"rate_limit_exceeded"}
    assert too_often.value.response.headers["x-ratelimit-limit-requests"] == "4"
    assert int(too_often.value.response.headers["retry-after"]) >= 1
    assert tokens() - before[0] == first[1] + streamed[1] + last[1]
    held = counted('adaptry_tenant_slot_seconds_total{tenant="zeta"}') - before[1]
    assert 0 < held < 60
    assert limited.ask("zeta", "upper") == "HELLO"


def test_a_request_of_tgis_or_loraxs_clients_is_one_request(limited: Limited) -> None:
    """Though one of `/v1/completions` is made of it."""
    limited.ask("acme", "upper")
    body = {"inputs": "hello=", "parameters": {"adapter_id": "acme~upper", "max_new_tokens": 8}}
    headers = {"authorization": f"Bearer {limited.keys['acme']}"}
    until(lambda: time.time() % 60 < 20)  # all of it has to happen within one minute
    with (
        limited.limits("acme", max_requests_in_flight=1, max_requests_per_minute=3),
        httpx.Client(base_url=limited.url, headers=headers, timeout=60) as http,
    ):
        asked = [http.post(path, json=body) for path in ("/", "/generate", "/generate_stream")]
        too_often = http.post("/", json=body)
    for answer in asked:
        assert answer.status_code == 200, answer.text
        assert "HELLO" in answer.text
        assert answer.headers["x-adaptry-version"] == "acme~upper:1"
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in asked]
    assert left == ["2", "1", "0"]
    error = too_often.json()
    assert (too_often.status_code, error["error_type"]) == (429, "overloaded")
    assert (error["code"], "retry-after" in too_often.headers) == ("rate_limit_exceeded", True)
    assert httpx.post(limited.url, json=body, timeout=60).status_code == 401


def test_pins_and_registrations_beyond_a_limit_are_refused(limited: Limited) -> None:
    source = str(ROOT / "demo" / "adapters" / "rot13")
    with limited.limits("acme", max_pins=1, max_storage_bytes=1):
        limited.root.cache.pin("acme~upper", "host")
        with pytest.raises(ApiError) as pinned:
            limited.root.cache.pin("acme~reverse", "host")
        limited.root.cache.unpin("acme~upper:1")
        with pytest.raises(ApiError) as stored:
            limited.root.versions.register("acme~rot13", source)
    with limited.limits("acme", max_registrations_per_hour=2), pytest.raises(ApiError) as often:
        limited.root.versions.register("acme~rot13", source)
    refusals = (pinned.value, stored.value, often.value)
    assert [refusal.status for refusal in refusals] == [409, 409, 429]
    assert {refusal.code for refusal in refusals} == {"tenant_limit"}
    metrics = limited.metrics()
    for limit in ("pins", "storage_bytes", "registrations_per_hour", "requests_in_flight"):
        series = f'adaptry_tenant_refusals_total{{limit="{limit}",tenant="acme"}} 1.0'
        assert series in metrics, limit
