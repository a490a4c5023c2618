"""Merged metrics of several replicas can be read by Prometheus' own parsers."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open,
)
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from engine.telemetry.endpoint import encode
from fleet.ingress.merge_metrics import merge


def scrape(opened: bool, *, hits: int = 0) -> str:
    registry = CollectorRegistry()
    Gauge("adaptry_slots", "Slots.", ["state"], registry=registry).labels("free").set(3)
    counter = Counter("adaptry_hits", 'Hits, "so called".', registry=registry)
    counter.inc(hits)
    seconds = Histogram("adaptry_load_seconds", "Loads.", ["how"], registry=registry)
    seconds.labels('a "b" {c}').observe(0.2, {"trace_id": "abc"})
    return encode(registry, opened, compressed=False).decode()


def samples(text: str, *, opened: bool) -> dict[tuple[str, str], list[Any]]:
    families = list((parse_open if opened else parse_plain)(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "each family once"
    found: dict[tuple[str, str], list[Any]] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, sample.labels.get("replica", "")
            found.setdefault(key, []).append(sample)
    return found


def check(*, opened: bool) -> dict[tuple[str, str], list[Any]]:
    text = merge(scrape(opened), {"two": scrape(opened, hits=2), "one": scrape(opened, hits=1)})
    found = samples(text, opened=opened)
    hits = {who: s[0].value for (name, who), s in found.items() if name == "adaptry_hits_total"}
    assert hits == {"": 0, "one": 1, "two": 2}
    (slots,) = found["adaptry_slots", "one"]
    assert slots.labels == {"replica": "one", "state": "free"}
    assert found["adaptry_load_seconds_count", "two"][0].labels["how"] == 'a "b" {c}'
    return found


def test_series_of_a_family_are_grouped_and_labelled_by_replica() -> None:
    check(opened=False)


def test_exemplars_are_preserved() -> None:
    found = check(opened=True)
    exemplars = [s.exemplar for s in found["adaptry_load_seconds_bucket", "one"] if s.exemplar]
    assert [each.labels for each in exemplars] == [{"trace_id": "abc"}]


def test_without_replicas_the_text_is_unchanged() -> None:
    text = scrape(True)
    assert samples(merge(text, {}), opened=True) == samples(text, opened=True)


def test_an_exemplar_is_no_label() -> None:
    text = '# TYPE a counter\na_total 1.0 # {trace_id="x"} 1.0\n# EOF\n'
    merged = merge("# EOF\n", {"one": text})
    assert 'a_total{replica="one"} 1.0 # {trace_id="x"} 1.0' in merged.splitlines()
