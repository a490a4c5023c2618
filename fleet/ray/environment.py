"""What the processes of a fleet on this machine find in their environment.

Ray reads its own part when it is imported, so that this comes before it.
"""

import os

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's own ports on loopback, as on these systems
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # three that fail, and there is another one
    "RAY_worker_niceness": "0",  # an engine is what this machine is for
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "PYTHONUNBUFFERED": "1",
}


def prepare_environment(database_url: str) -> None:
    """The database's URL goes this way too: Ray shows what it was given otherwise."""
    os.environ["ADAPTRY_DATABASE_URL"] = database_url
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
