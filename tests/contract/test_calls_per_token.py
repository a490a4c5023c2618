"""Calls of our functions for each streamed token, counted over vLLM's own front end."""

from pathlib import Path

from benchmarks.overhead.applications import ours, prepare
from benchmarks.overhead.calls import count_calls
from benchmarks.overhead.streams import ADAPTERS, Streams

ON_THE_WAY = {
    "engine/gateway/deferred_response.py: DeferredResponse.send",
    "registry/http/response_head.py: add_to_head.<locals>.send_with_headers",
}


async def test_a_further_token_costs_two_calls_whatever_layers_there_are(tmp_path: Path) -> None:
    """And a part of one for each step of the engine. Neither of the two makes a coroutine."""
    arguments = prepare(tmp_path, ADAPTERS)
    async with ours(arguments, tmp_path / "adapters", tmp_path / "state", keys=True) as application:
        streams = Streams(application, 8)
        await streams.ask(8, 2)
        calls = await count_calls(streams)
    assert {name for name, each in calls.functions.items() if each > 0.9} == ON_THE_WAY
    assert 2 <= calls.per_token < 3, calls.functions
