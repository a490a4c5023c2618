"""Faults row of the dashboard Cache."""

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
                "failed above 0; cancelled growing: users give up waiting.",
                "failed: the other panels of this row. cancelled: *Wait for a slot*.",
            ),
            Query(rate("adaptry_requests_total", by="outcome"), "{{outcome}}"),
            unit="reqps",
            coloured=REQUEST_OUTCOMES,
        ),
        areas(
            "Load failures",
            Meaning(
                "Loads and copies that failed or were refused, by transition and cause; their "
                "requests got an error.",
                "anything above 0; many of one cause at the same time: it is this server.",
                "files: register the version again. store, missing, io: look at the store and its "
                "mount. rank, modules: the server's arguments. device, memory, threads: the node.",
                "AdaptryLoadsRefused",
            ),
            Query(
                increase("adaptry_load_failures_total", by="transition, cause"),
                "{{transition}} {{cause}}",
            ),
        ),
        graph(
            "Drift",
            Meaning(
                "Adapters that the engine had in another place than the controller recorded. It is "
                "corrected immediately.",
                "anything above 0: something other than Adaptry loads adapters, or a bug.",
                "find who calls the engine directly; report it with the log.",
                "AdaptryDrift",
            ),
            Query(increase("adaptry_drift_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "In-step loads",
            Meaning(
                "Loads from disk within an engine step, which pause every stream.",
                "anything above 0: this must never happen.",
                "report it with the log; restart the server if it continues.",
                "AdaptryInStepLoads",
            ),
            Query(increase("adaptry_in_step_loads_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "Engine up",
            Meaning(
                "1 while an engine serves, 0 while it is being replaced.",
                "0 for longer than a start takes.",
                "the server's log says why the next one does not start.",
                "AdaptryEngineDown",
            ),
            Query(lowest("adaptry_engine_up", by="instance"), "{{instance}}"),
        ),
        graph(
            "Engines replaced and fallback loads",
            Meaning(
                "Engines that died or hung, and loads that only vLLM's slower path can copy into "
                "a slot.",
                "an engine replaced; fallback loads growing.",
                "look at the log around that time; fallback loads mean layers unknown to Adaptry.",
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
                "Every server with its versions of Adaptry and vLLM.",
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
