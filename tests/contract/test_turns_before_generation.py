"""Turns of the event loop until the engine is asked, for an adapter in its slot."""

from pathlib import Path

from benchmarks.overhead.turns import count_turns

OURS = {
    "/v1/completions": 4,
    "/v1/chat/completions": 7,
    "/v1/messages": 7,
    "/v1/responses": 7,
}


def test_a_request_waits_for_fewer_turns_than_with_stock(tmp_path: Path) -> None:
    """Keys and all layers of ours included: none of them suspends the request."""
    counted = count_turns(tmp_path, keys=True)
    assert counted == {"ours": OURS, "stock": {path: OURS[path] + 12 for path in OURS}}
