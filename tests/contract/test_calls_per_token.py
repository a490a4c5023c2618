"""Calls of our functions for each streamed token, counted over vLLM's own front end."""

from pathlib import Path

from benchmarks.common.workload import SHAPES, write_adapter, write_base_model
from benchmarks.overhead.applications import ours, parse_arguments
from benchmarks.overhead.calls import count_calls
from benchmarks.overhead.streams import ADAPTERS, Streams

ON_THE_WAY = {
    "engine/gateway/deferred_response.py: DeferredResponse.send",
    "registry/http/response_head.py: add_to_head.<locals>.send_with_headers",
}


async def test_a_further_token_costs_two_calls_whatever_layers_there_are(tmp_path: Path) -> None:
    """And a part of one for each step of the engine. Neither of the two makes a coroutine."""
    for n in range(ADAPTERS):
        write_adapter(tmp_path / "adapters", f"a{n}", SHAPES["tiny"], rank=8, seed=n)
    (tmp_path / "state").mkdir()
    arguments = parse_arguments(write_base_model(tmp_path, SHAPES["tiny"]), ADAPTERS)
    async with ours(arguments, tmp_path / "adapters", tmp_path / "state", keys=True) as application:
        streams = Streams(application, 8)
        await streams.ask(8, 2)
        calls = await count_calls(streams)
    assert {name for name, each in calls.functions.items() if each > 0.9} == ON_THE_WAY
    assert 2 <= calls.per_token < 3, calls.functions
