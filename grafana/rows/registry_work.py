"""Registry rows: registrations, versions and aliases, the database, the API and webhooks."""

from grafana.frame import Row
from grafana.looks import JOB_OUTCOMES
from grafana.meaning import Meaning
from grafana.panels import areas, graph, heatmap_of
from grafana.promql import Query, buckets, highest, increase, or_zero, quantile, rate, total

DATABASE_SECONDS = "adaptry_database_seconds"
API = 'handler=~"/api/.*"'
HTTP_SECONDS = "http_request_duration_seconds"

INGEST = Row(
    "Registrations",
    (
        areas(
            "Registrations ended",
            Meaning(
                "Registrations that ended, by outcome.",
                "failed; or none while jobs wait.",
                "*Rejections* shows why; `adaptry job list --state failed` shows which.",
                "AdaptryIngestStuck",
            ),
            Query(increase("adaptry_ingest_ended_total", by="outcome"), "{{outcome}}"),
            coloured=JOB_OUTCOMES,
        ),
        areas(
            "Jobs by state",
            Meaning(
                "Registrations that have not ended: receiving, queued or running.",
                "queued grows: more arrive than `ADAPTRY_MAX_INGESTS` workers can process.",
                "raise it, if disk and network have capacity.",
                "AdaptryIngestQueueStands",
            ),
            Query(highest("adaptry_ingest_jobs", by="state"), "{{state}}"),
        ),
        graph(
            "Oldest job",
            Meaning(
                "Age of the oldest registration that has not ended, and how long the oldest in "
                "the queue has waited.",
                "grows steadily.",
                "`adaptry job list` names it; cancel it if its bytes don't grow.",
                "AdaptryIngestStuck",
            ),
            (
                Query(highest("adaptry_ingest_oldest_seconds"), "oldest"),
                Query(highest("adaptry_ingest_wait_seconds"), "waits"),
            ),
            unit="s",
            steps=((None, "transparent"), (1800, "red")),
        ),
        heatmap_of(
            "Registration time",
            Meaning(
                "From the request until the end, waiting included.",
                "minutes, for adapters of some MB.",
                "check whether they wait (*Jobs by state*) or the source is slow (*Bytes "
                "fetched*).",
                "AdaptryIngestStuck",
            ),
            buckets("adaptry_ingest_seconds"),
        ),
        graph(
            "Bytes fetched",
            Meaning(
                "Bytes fetched per second by registrations that ended.",
                "far below the network's bandwidth.",
                "register from a closer source, or a faster disk.",
            ),
            Query(rate("adaptry_ingest_bytes_total"), "bytes"),
            unit="Bps",
        ),
        areas(
            "Rejections",
            Meaning(
                "Registrations that failed, by the code of the problem.",
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
                "Versions by state.",
                "versions that stay quarantined or pending.",
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
                "`adaptry adapter aliases NAME` shows the actor of each move.",
            ),
            Query(increase("adaptry_alias_moves_total", by="action"), "{{action}}"),
        ),
        areas(
            "Quarantines",
            Meaning(
                "Versions taken out of service, by the code of the reason.",
                "any.",
                "`adaptry adapter versions NAME` and the runbook.",
                "AdaptryQuarantine",
            ),
            Query(or_zero(increase("adaptry_quarantines_total", by="code"), "code"), "{{code}}"),
        ),
    ),
)

BEHIND, REFUSED = "{{instance}} behind: {{cause}}", "{{instance}} refused: {{cause}}"

AROUND = Row(
    "Database, API, webhooks",
    (
        graph(
            "Database time",
            Meaning(
                "How long the database was in use for one operation: median and 99th percentile.",
                "p99 above 100 ms for reads.",
                "look at the database's own load and locks; docs/registry-performance.md has the "
                "expected values.",
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
                "Operations that failed because the database could not be used.",
                "any.",
                "look at the database itself; Adaptry retries on its own.",
                "AdaptryDatabaseDown",
            ),
            Query(increase("adaptry_database_errors_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "Rates not shared",
            Meaning(
                "Requests whose rates a server counted alone, as Redis or the database was away.",
                "any.",
                "look at Redis; servers use it again on their own.",
                "AdaptryRatesNotShared",
            ),
            Query(increase("adaptry_rates_counted_alone_total", by="instance"), "{{instance}}"),
        ),
        graph(
            "Guests",
            Meaning(
                "Names that stock vLLM servers can't bring up to date, and requests that they "
                "refused, by cause. Only where their `/metrics` are scraped.",
                "names behind for minutes: they are served as their former versions.",
                "the guest's log names each version and why. rank: a larger `--max-lora-rank` "
                "there.",
                "AdaptryGuestBehind",
            ),
            (
                Query(total("adaptry_guest_behind", by="instance, cause"), BEHIND),
                Query(increase("adaptry_guest_refusals_total", by="instance, cause"), REFUSED),
            ),
        ),
        graph(
            "History lost",
            Meaning(
                "Records of the cache's history that the database did not take in time.",
                "any: the console's History page has a gap then.",
                "look at the database itself; the server records on.",
            ),
            Query(increase("adaptry_cache_history_dropped_total", by="instance"), "{{instance}}"),
        ),
        areas(
            "API responses",
            Meaning(
                "Responses under /api per second, by status class.",
                "5xx: a fault of the server or the database. 4xx: clients send requests that are "
                "refused.",
                "5xx: read the log. 4xx: the response has the code of the problem.",
                "AdaptryDatabaseDown",
            ),
            Query(rate("http_requests_total", API, by="status"), "{{status}}"),
            unit="reqps",
        ),
        graph(
            "API response time",
            Meaning(
                "Duration of responses under /api by path, 95th percentile.",
                "seconds, for a path that only reads.",
                "compare with *Database time*.",
            ),
            Query(quantile(0.95, HTTP_SECONDS, API, by="handler"), "{{handler}}"),
            unit="s",
        ),
        areas(
            "Webhook deliveries",
            Meaning(
                "Attempts to deliver a message, by outcome.",
                "failed: a receiver refuses or is down. Retried with growing intervals.",
                "`adaptry webhook list`; repair the receiver, then enable it again.",
            ),
            Query(increase("adaptry_webhook_deliveries_total", by="outcome"), "{{outcome}}"),
            coloured=("failed",),
        ),
        graph(
            "Webhook backlog",
            Meaning(
                "Messages not delivered yet.",
                "grows steadily.",
                "`adaptry webhook list` shows whose.",
            ),
            Query(highest("adaptry_webhook_backlog"), "messages"),
        ),
        areas(
            "Refused API keys",
            Meaning(
                "Requests refused because of their API key, by reason.",
                "many unknown or malformed: someone is guessing keys. expired or revoked: a client "
                "still uses an old key.",
                "the log shows the client's address; `adaptry key list` shows which keys are "
                "valid.",
            ),
            Query(increase("adaptry_key_refusals_total", by="reason"), "{{reason}}"),
        ),
    ),
)
