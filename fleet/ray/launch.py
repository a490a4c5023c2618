"""`adaptry serve --replicas`: Ray and Ray Serve on this machine, for as long as this runs."""

import signal
import threading
from types import FrameType

import ray
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from fleet.options import FleetOptions
from fleet.ray.application import build

_NAME = "adaptry"
_LOCAL = "127.0.0.1"


def serve_fleet(options: FleetOptions, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises RuntimeError if it can't be started.

    `fleet.ray.environment.prepare_environment` comes before the import of this module.
    """
    ray.init(address="local", include_dashboard=False, _node_ip_address=_LOCAL)
    try:
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=host, port=port),
            logging_config=LoggingConfig(enable_access_log=False),
        )
        stop = _told_to_stop()
        serve.run(build(options), name=_NAME, route_prefix="/")
        stop.wait()
        serve.shutdown()  # type: ignore[no-untyped-call]  # theirs
    finally:
        ray.shutdown()


def _told_to_stop() -> threading.Event:
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop
