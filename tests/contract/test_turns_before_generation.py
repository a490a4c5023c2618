"""Turns of the event loop until the engine is asked, for an adapter in its slot."""

from pathlib import Path

from benchmarks.overhead.turns import BODIES, count_turns

MOST = {
    "/v1/completions": 6,
    "/v1/chat/completions": 10,
    "/v1/messages": 10,
    "/v1/responses": 10,
}
"""Two or three more than there are: threads may answer late. All that suspends a request adds."""


def test_a_request_waits_for_fewer_turns_than_with_stock(tmp_path: Path) -> None:
    """Keys and all layers of ours included: none of them suspends the request."""
    counted = count_turns(tmp_path, keys=True)
    for path in BODIES:
        ours, stock = counted["ours"][path], counted["stock"][path]
        assert ours <= MOST[path], counted
        assert ours <= stock - 8, counted
