"""Health row of the dashboard Registry."""

from grafana.frame import Row
from grafana.looks import NONE_WANTED
from grafana.meaning import Meaning
from grafana.panels import number
from grafana.promql import highest, increase, or_zero, series

# Servers on one database all count the same rows: use the highest, never the sum.
DATABASE_UP = series("adaptry_database_up")
FAILED = increase("adaptry_ingest_ended_total", 'outcome="failed"', within="1h")
QUARANTINES = or_zero(increase("adaptry_quarantines_total", within="24h"))

HEALTH = Row(
    "Is the registry healthy?",
    (
        number(
            "Database",
            Meaning(
                "Whether the last query of the database succeeded.",
                "down: nothing can be registered or promoted; references already resolved are "
                "served.",
                "look at the database itself, then at `/readyz`.",
                "AdaptryDatabaseDown",
            ),
            f"min ({DATABASE_UP})",
            steps=((None, "red"), (1, "green")),
            names={"0": "down", "1": "up"},
            empty="unknown",
        ),
        number(
            "Jobs waiting or running",
            Meaning(
                "Registrations that have not ended.",
                "growing, while *Registrations ended* stays at 0.",
                "`adaptry job list --state running` shows what each of them does.",
                "AdaptryIngestStuck",
            ),
            f"sum ({highest('adaptry_ingest_jobs', by='state')})",
            empty="unknown",
        ),
        number(
            "Oldest job",
            Meaning(
                "Age of the oldest registration that has not ended; 0 if there is none.",
                "above half an hour, unless it is a very large adapter.",
                "`adaptry job show N`; cancel it and register again from a closer source.",
                "AdaptryIngestStuck",
            ),
            highest("adaptry_ingest_oldest_seconds"),
            unit="s",
            steps=((None, "green"), (600, "orange"), (1800, "red")),
            empty="unknown",
        ),
        number(
            "Failed in 1 h",
            Meaning(
                "Registrations that failed.",
                "several, with the same code under *Rejections*.",
                "inform the publisher: docs/inspection.md says what to do for each code.",
            ),
            FAILED,
            steps=((None, "green"), (1, "orange"), (10, "red")),
        ),
        number(
            "Quarantined in 24 h",
            Meaning(
                "Versions taken out of service, by the engine or by an operator.",
                "any that an alias points at: its requests are refused.",
                "roll the alias back, then look at the reason.",
                "AdaptryQuarantine",
            ),
            QUARANTINES,
            steps=NONE_WANTED,
        ),
        number(
            "Webhook backlog",
            Meaning(
                "Messages not delivered yet.",
                "growing: a receiver is down or slow.",
                "`adaptry webhook list` shows which one, and since when.",
            ),
            highest("adaptry_webhook_backlog"),
            steps=((None, "green"), (100, "orange"), (1000, "red")),
            empty="unknown",
        ),
        number(
            "Adapters",
            Meaning(
                "Adapters in the registry, each with any number of versions.",
                "falls: adapters are being deleted.",
                "`adaptry adapter gc` changes nothing without `--apply`.",
            ),
            highest("adaptry_registry_adapters"),
            empty="unknown",
        ),
        number(
            "Store",
            Meaning(
                "Size of the files of all versions that are not purged, each content once.",
                "close to the size of the disk.",
                "`adaptry adapter gc` lists what can be removed.",
            ),
            highest("adaptry_store_bytes"),
            unit="bytes",
            empty="unknown",
        ),
    ),
)
