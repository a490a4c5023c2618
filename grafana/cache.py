"""Dashboard *Cache*: is it healthy, and if not, which adapter and why."""

from grafana.frame import Frame
from grafana.rows.cache_faults import FAULTS
from grafana.rows.cache_health import HEALTH
from grafana.rows.cache_places import ADAPTERS, PLACES
from grafana.rows.cache_replicas import REPLICAS
from grafana.rows.cache_traffic import HITS, WAITS

CACHE = Frame(
    uid="adaptry-cache",
    title="Adaptry / Cache",
    description="Where adapters are resident, and what that costs requests.",
    rows=(HEALTH, HITS, WAITS, PLACES, ADAPTERS, REPLICAS, FAULTS),
    instances="adaptry_queue_depth",
)
