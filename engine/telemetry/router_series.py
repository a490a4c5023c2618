"""Router series: the cache under the names that routers read, as vLLM's open proposals spell them.

llm-d's router scores an endpoint by what is in its memory and by what its loads took. vLLM up to
0.33 exports none of it: pull requests 54830 (residency, load times) and 45820 (lookups) propose
these names and labels. Values are those of our own series.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.cache.snapshot import CacheSnapshot
from engine.events import CacheEvent, LookedUp, MovedIn
from engine.types import CacheOutcome, Tier, Transition

NAMES = (
    "vllm:num_gpu_loaded_lora_adapters",
    "vllm:num_cpu_loaded_lora_adapters",
    "vllm:max_gpu_lora_adapters",
    "vllm:lora_adapter_load_seconds",
    "vllm:lora_cache_lookups",
    "vllm:lora_cache_hits",
)
"""Of the families."""

_ENGINE = "0"  # a server has one engine; vLLM's series have this label too
_LABELS = ("model_name", "engine")
_TIERS = {Tier.GPU: "gpu", Tier.HOST: "cpu"}
_TRANSITIONS = {Transition.DISK_TO_HOST: "load", Transition.HOST_TO_GPU: "activate"}
_SLOT_HIT = CacheOutcome.GPU_HIT
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RouterSeries(Collector):
    """An observer, and a collector of what it counts. All series are there from the start.

    `model_name`: the base model's first served name; a request that names it needs no adapter.
    """

    def __init__(self, model_name: str) -> None:
        self._labels = (model_name, _ENGINE)
        self._load_seconds = Histogram(
            "vllm:lora_adapter_load_seconds",
            "Time of one load from disk (load), or of one copy into a slot (activate).",
            (*_LABELS, "transition"),
            buckets=_BUCKETS,
            registry=None,
        )
        text = "Lookups of a tier by requests for adapters."
        self._lookups = Counter("vllm:lora_cache_lookups", text, (*_LABELS, "tier"), registry=None)
        text = "Lookups that found the adapter in the tier."
        self._hits = Counter("vllm:lora_cache_hits", text, (*_LABELS, "tier"), registry=None)
        self._seconds_of = {
            transition: self._load_seconds.labels(*self._labels, name)
            for transition, name in _TRANSITIONS.items()
        }
        of_tier = {tier: (*self._labels, name) for tier, name in _TIERS.items()}
        self._lookups_of = {tier: self._lookups.labels(*each) for tier, each in of_tier.items()}
        self._hits_of = {tier: self._hits.labels(*each) for tier, each in of_tier.items()}

    def describe(self) -> Iterable[Metric]:
        return ()  # claims no name: a vLLM that has one of them registers it, and it is removed

    def collect(self) -> Iterable[Metric]:
        for counted in (self._load_seconds, self._lookups, self._hits):
            yield from counted.collect()

    def gauges(self, now: CacheSnapshot) -> Iterable[Metric]:
        """Residency and capacity, in the scrape's snapshot."""
        for name, text, value in (
            ("num_gpu_loaded_lora_adapters", "Adapters in GPU slots.", len(now.gpu)),
            ("num_cpu_loaded_lora_adapters", "Adapters in host memory.", len(now.host)),
            ("max_gpu_lora_adapters", "GPU slots for adapters.", now.slots),
        ):
            family = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            family.add_metric(self._labels, value)
            yield family

    def on_event(self, event: CacheEvent) -> None:
        match event:
            case LookedUp(outcome=outcome) if outcome is not _SLOT_HIT or event.wait_seconds:
                self._count(Tier.GPU, found=outcome is _SLOT_HIT)
                if outcome is not _SLOT_HIT:
                    self._count(Tier.HOST, found=outcome is CacheOutcome.HOST_HIT)
            case MovedIn(transition=transition, seconds=seconds):
                self._seconds_of[transition].observe(seconds)

    def add_slot_hits(self, count: int) -> None:
        """Of requests that did not wait: they are counted elsewhere until the series are read."""
        self._lookups_of[Tier.GPU].inc(count)
        self._hits_of[Tier.GPU].inc(count)

    def _count(self, tier: Tier, *, found: bool) -> None:
        self._lookups_of[tier].inc()
        if found:
            self._hits_of[tier].inc()
