"""Keeps Ray Serve's own port of a replica off the addresses that nobody needs.

Ray Serve (2.60) opens it on all of them, `ray.serve._private.replica.Replica._on_initialized`;
whoever calls uses the node's. It asks for a token, but is better not there at all.
"""

import logging
from typing import Any

from ray.serve._private import replica
from ray.util import get_node_ip_address

logger = logging.getLogger(__name__)

_EVERYWHERE = "[::]:0"


def listen_on_the_nodes_address_only() -> None:
    """To be called in a replica's constructor, which comes before its port is opened."""
    add_port = getattr(replica, "add_port_to_grpc_server", None)
    if add_port is None:
        logger.warning("this Ray Serve opens its ports in another way: see where it listens")
        return
    address = f"{get_node_ip_address()}:0"  # type: ignore[no-untyped-call]  # theirs

    def add_port_here(server: Any, asked: str) -> Any:
        return add_port(server, address if asked == _EVERYWHERE else asked)

    vars(replica)["add_port_to_grpc_server"] = add_port_here
