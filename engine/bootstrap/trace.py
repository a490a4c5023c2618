"""Trace of one server: recorder, background work and route, or none of them."""

import time
from argparse import Namespace
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter

from engine.api.trace import create_trace_router
from engine.ports import Observer
from engine.settings import EngineSettings
from engine.trace import FORMAT
from engine.trace.lines import ServerLine
from engine.trace.recorder import NullTrace, RequestTrace, TraceRecorder
from engine.trace.segments import TraceSegments


@dataclass(frozen=True, slots=True)
class ServerTrace:
    """`recorder` None: nothing is recorded. `work` has to run meanwhile."""

    recorder: TraceRecorder | None

    @property
    def requests(self) -> RequestTrace:
        return self.recorder or NullTrace()

    @property
    def observers(self) -> Sequence[Observer]:
        return () if self.recorder is None else (self.recorder,)

    def work(self) -> list[Coroutine[None, None, None]]:
        return [] if self.recorder is None else [self.recorder.run()]

    def router(self) -> APIRouter:
        return create_trace_router(self.recorder)


def create_trace(
    arguments: Namespace, settings: EngineSettings, store: Path, server: str, *, is_replica: bool
) -> ServerTrace:
    """`arguments`: vLLM's. `store`: beside it is the folder, if none is set.

    A replica records none: its ingress could not ask for it.
    """
    if not settings.trace_bytes or is_replica:
        return ServerTrace(None)
    folder = settings.trace_folder or store.parent / "traces"
    segments = TraceSegments(folder / quote(server, safe=""), settings.trace_bytes)
    line = ServerLine(
        format=FORMAT,
        at=round(time.time(), 3),
        server=server,
        base=arguments.model,
        slots=arguments.max_loras,
        host_places=arguments.max_cpu_loras,
        host_bytes=settings.host_cache_bytes,
        max_rank=arguments.max_lora_rank,
        max_loads=settings.max_loads,
        slot_wait_seconds=settings.max_slot_wait_seconds,
        eviction_policy=str(settings.eviction_policy),
    )
    return ServerTrace(TraceRecorder(segments, line))
