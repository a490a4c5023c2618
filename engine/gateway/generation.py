"""Generation: one engine request, whose outputs are counted: tokens, time to the first token."""

from collections import defaultdict
from typing import Any, Protocol

from engine.telemetry.spans import Headers
from engine.types import CacheOutcome, Lease


class GenerationCounter(Protocol):
    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None: ...
    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None: ...


class Generation:
    """Counts nothing: for the base model, or for a lease that is counted elsewhere."""

    def __init__(self, trace_headers: Headers | None = None) -> None:
        self.options = {} if trace_headers is None else {"trace_headers": trace_headers}

    def on_output(self, output: Any) -> None:
        """An output of vLLM's `generate` or `encode`."""

    def end(self) -> None:
        """No output follows."""


class CountedGeneration(Generation):
    """Counts the tokens, and the time to the first one.

    `arrived_at`: when the request was complete, in seconds since 1970.

    `deltas`: each output holds only the tokens since the one before (vLLM's RequestOutputKind).
    Reads vLLM's RequestOutput and RequestStateStats, 0.26 to 0.32.
    """

    def __init__(
        self,
        counter: GenerationCounter,
        lease: Lease,
        arrived_at: float,
        *,
        deltas: bool,
        trace_headers: Headers | None,
    ) -> None:
        super().__init__(trace_headers)
        self._counter = counter
        self._lease = lease
        self._arrived_at = arrived_at
        self._deltas = deltas
        self._prompt = 0
        self._generated: dict[int, int] = defaultdict(int)  # by completion; a request may have n
        self._has_first_token = False

    def on_output(self, output: Any) -> None:
        self._prompt = self._prompt or len(output.prompt_token_ids or ())
        if not isinstance(output.outputs, list):  # outputs of `encode` have no tokens
            return
        for completion in output.outputs:
            count = len(completion.token_ids)
            before = self._generated[completion.index] if self._deltas else 0
            self._generated[completion.index] = before + count
        if not self._has_first_token and output.metrics is not None:
            self._observe_first_token(output.metrics)

    def _observe_first_token(self, stats: Any) -> None:
        """By vLLM's clock: a response that is not streamed has a first token too."""
        if stats.first_token_latency > 0:
            self._has_first_token = True
            at = stats.arrival_time + stats.first_token_latency
            self._counter.observe_first_token(self._lease.outcome, max(at - self._arrived_at, 0.0))

    def end(self) -> None:
        generated = sum(self._generated.values())
        self._counter.count_tokens(self._lease.version.adapter, self._prompt, generated)
