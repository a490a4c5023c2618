"""Launch of `adaptry serve --replicas`: Ray and Ray Serve on this machine until it is stopped."""

import os
import secrets
import signal
import threading
from types import FrameType
from typing import Any

from fleet.options import FleetOptions

_NAME = "adaptry"
_LOCAL = "127.0.0.1"
_STARTS = 3
_TOO_SLOW = "timed out during startup"
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
    """Set what all processes of the fleet on this machine inherit.

    Has to run before Ray is imported, which reads its variables then. The database's URL goes this
    way too: Ray shows its configuration to anyone who can reach it. So does the token: Ray's own is
    written once to a file of the home folder that others may be able to read, and stays the same.
    """
    os.environ["ADAPTRY_DATABASE_URL"] = database_url
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def serve_fleet(options: FleetOptions, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises RuntimeError if it can't be started.

    Imports Ray, so that `prepare_environment` has to come first.
    """
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation
    from ray.serve.schema import LoggingConfig

    from fleet.ray.application import build

    _start_ray(ray)
    try:
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=port),
            logging_config=LoggingConfig(enable_access_log=False),
        )
        stop = _set_on_signals()
        serve.run(build(options), name=_NAME, route_prefix="/")
        stop.wait()
        serve.shutdown()  # type: ignore[no-untyped-call]  # theirs
    finally:
        ray.shutdown()


def _start_ray(ray: Any) -> None:
    """Ray (2.60) gives its own processes up after 30 s, which a busy machine may need: again."""
    for left in reversed(range(_STARTS)):
        try:
            ray.init(address="local", include_dashboard=False, _node_ip_address=_LOCAL)
        except Exception as error:
            ray.shutdown()
            if _TOO_SLOW not in str(error) or not left:
                raise
        else:
            return


def _set_on_signals() -> threading.Event:
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop
