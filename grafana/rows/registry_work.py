"""Registry: what comes in, what becomes of it, and what the database takes."""

from grafana.frame import Row
from grafana.looks import JOB_OUTCOMES
from grafana.meaning import Meaning
from grafana.panels import areas, graph, heatmap_of
from grafana.promql import Query, buckets, highest, increase, or_zero, quantile, rate

DATABASE_SECONDS = "adaptry_database_seconds"
API = 'handler=~"/api/.*"'
HTTP_SECONDS = "http_request_duration_seconds"

INGEST = Row(
    "Registrations",
    (
        areas(
            "Registrations ended",
            Meaning(
                "How many came to an end, and how.",
                "failed; or none at all while jobs wait.",
                "*Rejections* says why; `adaptry job list --state failed` says which.",
                "AdaptryIngestStuck",
            ),
            Query(increase("adaptry_ingest_ended_total", by="outcome"), "{{outcome}}"),
            coloured=JOB_OUTCOMES,
        ),
        areas(
            "Jobs by state",
            Meaning(
                "Registrations that have not ended: receiving, queued or running.",
                "queued grows: more come than `ADAPTRY_MAX_INGESTS` can work on.",
                "raise it, if disk and network can take more.",
                "AdaptryIngestStuck",
            ),
            Query(highest("adaptry_ingest_jobs", by="state"), "{{state}}"),
        ),
        graph(
            "Oldest job",
            Meaning(
                "Age of the oldest registration that has not ended.",
                "grows without end.",
                "`adaptry job list` names it; cancel it if its bytes don't grow.",
                "AdaptryIngestStuck",
            ),
            Query(highest("adaptry_ingest_oldest_seconds"), "oldest"),
            unit="s",
            steps=((None, "transparent"), (1800, "red")),
        ),
        heatmap_of(
            "Time of a registration",
            Meaning(
                "From its being asked for until its end, waiting for its turn included.",
                "minutes, for adapters of some MB.",
                "see whether they wait (*Jobs by state*) or the source is slow (*Bytes taken in*).",
                "AdaptryIngestStuck",
            ),
            buckets("adaptry_ingest_seconds"),
        ),
        graph(
            "Bytes taken in",
            Meaning(
                "Bytes fetched per second by registrations that ended.",
                "far below what the network can do.",
                "register from a nearer source, or a faster disk.",
            ),
            Query(rate("adaptry_ingest_bytes_total"), "bytes"),
            unit="Bps",
        ),
        areas(
            "Rejections",
            Meaning(
                "Registrations that failed, by the code of their problem.",
                "many of one code: a training job writes adapters that can't be served.",
                "docs/inspection.md says what to do for each code.",
            ),
            Query(or_zero(increase("adaptry_rejections_total", by="code"), "code"), "{{code}}"),
        ),
    ),
)

STOCK = Row(
    "Versions and aliases",
    (
        areas(
            "Versions by state",
            Meaning(
                "All versions by their state.",
                "quarantined or pending ones that stay.",
                "`adaptry adapter search` finds them by state.",
                "AdaptryQuarantine",
            ),
            Query(highest("adaptry_registry_versions", by="state"), "{{state}}"),
        ),
        areas(
            "Alias moves",
            Meaning(
                "Aliases that were moved, split or deleted.",
                "many in a short time: two systems promote against each other.",
                "`adaptry adapter aliases NAME` says who did it.",
            ),
            Query(increase("adaptry_alias_moves_total", by="action"), "{{action}}"),
        ),
        areas(
            "Quarantines",
            Meaning(
                "Versions taken out of service, by the reason's code.",
                "any.",
                "`adaptry adapter versions NAME` and the runbook.",
                "AdaptryQuarantine",
            ),
            Query(or_zero(increase("adaptry_quarantines_total", by="code"), "code"), "{{code}}"),
        ),
    ),
)

AROUND = Row(
    "Database, API, webhooks",
    (
        graph(
            "Database time",
            Meaning(
                "How long the database was in use for one operation: median and 99th percentile.",
                "p99 above 100 ms for reads.",
                "look at the database's own load and locks; docs/registry-performance.md has what "
                "to expect.",
                "AdaptryDatabaseDown",
            ),
            tuple(
                Query(
                    quantile(fraction, DATABASE_SECONDS, by="operation"),
                    f"{name} {{{{operation}}}}",
                )
                for fraction, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            unit="s",
        ),
        graph(
            "Database errors",
            Meaning(
                "Operations that failed since the database was away.",
                "any.",
                "look at the database itself; Adaptry tries again by itself.",
                "AdaptryDatabaseDown",
            ),
            Query(increase("adaptry_database_errors_total", by="instance"), "{{instance}}"),
        ),
        areas(
            "API answers",
            Meaning(
                "Answers under /api per second, by the class of their status.",
                "5xx: it is our fault or the database's. 4xx: a client sends what is refused.",
                "5xx: the log. 4xx: the problem's code is in the answer.",
                "AdaptryDatabaseDown",
            ),
            Query(rate("http_requests_total", API, by="status"), "{{status}}"),
            unit="reqps",
        ),
        graph(
            "API time",
            Meaning(
                "How long answers under /api took, by path: 95th percentile.",
                "seconds, for a path that only reads.",
                "compare with *Database time*.",
            ),
            Query(quantile(0.95, HTTP_SECONDS, API, by="handler"), "{{handler}}"),
            unit="s",
        ),
        areas(
            "Webhook deliveries",
            Meaning(
                "Attempts to deliver a message, by how they ended.",
                "failed: a receiver refuses or is away. It is tried again, ever more seldom.",
                "`adaptry webhook list`; repair the receiver, then enable it again.",
            ),
            Query(increase("adaptry_webhook_deliveries_total", by="outcome"), "{{outcome}}"),
            coloured=("failed",),
        ),
        graph(
            "Webhooks to deliver",
            Meaning(
                "Messages that are still to be delivered.",
                "grows without end.",
                "`adaptry webhook list` says whose.",
            ),
            Query(highest("adaptry_webhook_backlog"), "messages"),
        ),
        areas(
            "Refused keys",
            Meaning(
                "Requests that were refused for their API key, by reason.",
                "unknown or malformed, many: somebody guesses. expired or revoked: somebody still "
                "uses an old one.",
                "the log says from where; `adaptry key list` says which keys are good.",
            ),
            Query(increase("adaptry_key_refusals_total", by="reason"), "{{reason}}"),
        ),
    ),
)
