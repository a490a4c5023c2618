"""Cache: what should not happen at all."""

from grafana.frame import Row
from grafana.looks import REQUEST_OUTCOMES
from grafana.meaning import Meaning
from grafana.panels import areas, graph, listing
from grafana.promql import Query, increase, lowest, rate, total

FAULTS = Row(
    "Faults",
    (
        areas(
            "Requests by outcome",
            Meaning(
                "completed; refused (4xx); failed (5xx); cancelled (the client left).",
                "failed above 0; cancelled growing: people don't wait any longer.",
                "failed: the other panels of this row. cancelled: *Wait for a slot*.",
            ),
            Query(rate("adaptry_requests_total", by="outcome"), "{{outcome}}"),
            unit="reqps",
            coloured=REQUEST_OUTCOMES,
        ),
        areas(
            "Load failures",
            Meaning(
                "Adapters that could not be brought in, by step and cause; their requests got an "
                "error.",
                "anything above 0.",
                "missing or damaged files: register the version again. io: look at the disk.",
                "AdaptryLoadFailures",
            ),
            Query(
                increase("adaptry_load_failures_total", by="transition, cause"),
                "{{transition}} {{cause}}",
            ),
        ),
        graph(
            "Drift",
            Meaning(
                "Adapters that the engine held elsewhere than the controller thought. It is put "
                "right at once.",
                "anything above 0: something else than Adaptry loads adapters, or a bug.",
                "find who calls the engine directly; report it with the log.",
                "AdaptryDrift",
            ),
            Query(increase("adaptry_drift_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "In-step loads",
            Meaning(
                "Reads from disk inside an engine step, during which every stream stands still.",
                "anything above 0: this must never happen.",
                "report it with the log; restart the server if it goes on.",
                "AdaptryInStepLoads",
            ),
            Query(increase("adaptry_in_step_loads_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "Engine up",
            Meaning(
                "1 while an engine serves, 0 while it is being replaced.",
                "0 for longer than a start takes.",
                "read in the log why the next one does not start.",
                "AdaptryEngineDown",
            ),
            Query(lowest("adaptry_engine_up", by="instance"), "{{instance}}"),
        ),
        graph(
            "Engines replaced and fallback loads",
            Meaning(
                "Engines that died or hung, and adapters that only vLLM's slower path can place.",
                "an engine replaced; fallback loads growing.",
                "look at the log around that time; fallback loads mean layers that are new to us.",
                "AdaptryEngineEnded",
            ),
            (
                Query(increase("adaptry_engine_ends_total", by="cause"), "engine {{cause}}"),
                Query(increase("adaptry_fallback_loads_total"), "fallback loads"),
            ),
        ),
        listing(
            "Servers",
            Meaning(
                "Every server with its version and that of vLLM.",
                "different versions for longer than an upgrade takes.",
                "finish the upgrade.",
                "AdaptryTargetDown",
            ),
            total("adaptry_build_info", by="instance, version, vllm_version"),
            {"instance": "Instance", "version": "Adaptry", "vllm_version": "vLLM"},
            width=8,
        ),
    ),
)
