"""Errors of an engine that does not answer."""

from engine.errors.base import RETRY_AFTER_FAILURE_SECONDS, EngineError

_SUSPENDED_SECONDS = 5  # only the operator knows when it goes on


class AnswerTimeout(EngineError):
    """Not tried elsewhere: the work may have been done."""

    status = 504
    code = "answer_timeout"

    def __init__(self, silent_seconds: float) -> None:
        super().__init__(f"nothing of the answer came for {silent_seconds:g} s: it is given up")


class EngineUnavailable(EngineError):
    """A retry may succeed: an engine that ends is replaced, and its supervisor estimates when."""

    status = 503
    code = "engine_unavailable"

    def __init__(
        self, reason: str, *, retry_after_seconds: int = RETRY_AFTER_FAILURE_SECONDS
    ) -> None:
        super().__init__(
            f"the engine does not answer: {reason}", retry_after_seconds=retry_after_seconds
        )


class EngineDied(EngineUnavailable):
    """It died or was shut down: calls in flight will never be answered."""


class AdapterLost(EngineUnavailable):
    """Of a stock server: another client unloaded it there, or that server was started again."""


class EngineSuspended(EngineUnavailable):
    """By an operator, whose own requests it still answers."""


class EnginePaused(EngineSuspended):
    """By an operator, who resumes it."""

    code = "engine_paused"

    def __init__(self) -> None:
        super().__init__("an operator has paused it", retry_after_seconds=_SUSPENDED_SECONDS)


class EngineAsleep(EngineSuspended):
    """By an operator, who wakes it up."""

    code = "engine_asleep"

    def __init__(self) -> None:
        super().__init__("an operator has put it to sleep", retry_after_seconds=_SUSPENDED_SECONDS)


class SleepRefused(EngineError):
    """What it asks for would leave the base model or an adapter unsure."""

    status = 409
    code = "sleep_refused"


class CallRefused(EngineError):
    """By `/collective_rpc`, past the cache or past vLLM's own route for it."""

    status = 409
    code = "call_refused"


class WeightUpdateRefused(EngineError):
    """Versions are bound to the base model that the engine has loaded."""

    status = 409
    code = "weight_update_refused"

    def __init__(self, method: str) -> None:
        super().__init__(
            f"{method} would change the base model, which the adapters' versions are bound to: "
            "start a server with the new base model"
        )
