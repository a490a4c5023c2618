"""docs/howto/routers.md lists the series that routers read, as a server exports them."""

import re

from prometheus_client import CollectorRegistry

from engine.cache.snapshot import CacheSnapshot, ResidentAdapter
from engine.telemetry.metrics import CacheMetrics
from engine.types import AdapterVersion, Tier, VersionId
from tests.support.docs.page_blocks import ROOT

ROW = re.compile(r"^\| `(vllm:\w+)` \| (\w+) \| (.*?) \|", re.MULTILINE)


def test_the_page_lists_the_series_with_their_types_and_labels() -> None:
    page = (ROOT / "docs" / "howto" / "routers.md").read_text(encoding="utf-8")
    listed = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(page)
    }
    version = AdapterVersion(VersionId(1), "upper", 1, "0" * 64, "/", 8, 100)
    upper = ResidentAdapter(version, 100, 0, 0, None, 0, None, 0.0, leaving=False)
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry, model_name="tiny")
    now = CacheSnapshot(2, 4, None, (upper,), (upper,), (), 0, dict.fromkeys(Tier, 0))
    metrics.watch(lambda: now, in_step_loads=lambda: 0)
    exported = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in registry.collect()
        if family.name.startswith("vllm:")
    }
    assert listed == exported
