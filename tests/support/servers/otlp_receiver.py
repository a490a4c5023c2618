"""A real OTLP receiver over gRPC, as a collector is one."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no types
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class ReceivedSpan:
    """Ids are hexadecimal; `parent` is empty at the root. Times in nanoseconds since 1970."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    is_error: bool
    start: int
    end: int


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.bytes_received = b""
        self.services: set[str] = set()

    def Export(  # noqa: N802  # as the protocol has it
        self, request: ExportTraceServiceRequest, context: Any
    ) -> ExportTraceServiceResponse:
        self.bytes_received += request.SerializeToString()
        for resource in request.resource_spans:
            attributes = resource.resource.attributes
            self.services |= {a.value.string_value for a in attributes if a.key == "service.name"}
            for scope in resource.scope_spans:
                self.spans += map(_span, scope.spans)
        return ExportTraceServiceResponse()

    def of_trace(self, trace: str) -> dict[str, ReceivedSpan]:
        """By name; each may be there once."""
        found = [span for span in self.spans if span.trace == trace]
        by_name = {span.name: span for span in found}
        assert len(by_name) == len(found), [span.name for span in found]
        return by_name

    def wait_for(self, trace: str, names: set[str], seconds: float = 20) -> dict[str, ReceivedSpan]:
        self.until(lambda: names <= {s.name for s in self.spans if s.trace == trace}, seconds)
        return self.of_trace(trace)

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, [(s.trace, s.name) for s in self.spans]
            time.sleep(0.05)


def _span(span: Any) -> ReceivedSpan:
    values = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
    return ReceivedSpan(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=values,
        is_error=span.status.code == span.status.STATUS_CODE_ERROR,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    """The receiver and its endpoint."""
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(receiver, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
