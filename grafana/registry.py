"""Dashboard *Registry*: registrations, versions, and the services below."""

from grafana.frame import Frame
from grafana.rows.registry_health import HEALTH
from grafana.rows.registry_work import AROUND, INGEST, STOCK

REGISTRY = Frame(
    uid="adaptry-registry",
    title="Adaptry / Registry",
    description="Registrations, versions, aliases, the database, and webhooks.",
    rows=(HEALTH, INGEST, STOCK, AROUND),
    instances='{__name__=~"adaptry_database_up|adaptry_guest_behind"}',
)
