"""Errors of loads: what kept an adapter out of memory."""

from engine.errors.base import RETRY_AFTER_FAILURE_SECONDS, EngineError
from engine.types import LoadFailure


class AdapterLoadFailed(EngineError):
    """A refusal of this engine. `retry_after_seconds` is set to when it makes a new attempt."""

    status = 503
    code = "adapter_load_failed"

    def __init__(
        self, reference: str, reason: str, failure: LoadFailure = LoadFailure.ENGINE
    ) -> None:
        super().__init__(
            f"adapter {reference} could not be loaded: {reason}",
            retry_after_seconds=RETRY_AFTER_FAILURE_SECONDS,
        )
        self.failure = failure


class AdapterFilesMissing(AdapterLoadFailed):
    code = "adapter_files_missing"

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(reference, reason, LoadFailure.MISSING)


class AdapterStoreAway(AdapterLoadFailed):
    code = "store_unavailable"

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(reference, reason, LoadFailure.STORE)


class AdapterUnfit(AdapterLoadFailed):
    """`code`: that of the inspection's defect, such as `rank_too_large`."""

    def __init__(self, reference: str, reason: str, failure: LoadFailure, code: str) -> None:
        super().__init__(reference, f"this engine can't serve it: {reason}", failure)
        self.code = code


class LoadsStalled(AdapterLoadFailed):
    """Reads that timed out still hang: of its own files, or too many of others."""

    code = "loads_stalled"

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(reference, reason, LoadFailure.STALLED)
