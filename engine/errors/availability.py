"""Errors of an engine that does not answer."""

from engine.errors.base import RETRY_AFTER_FAILURE_SECONDS, EngineError


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
