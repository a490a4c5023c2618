"""What can go wrong between a request and its adapter's slot; each knows its HTTP status.

EngineError
├── AdapterLoadFailed     503  its files could not be brought into memory
├── SlotWaitTimeout       503  no slot came free in time
├── QueueFull             429  too many requests wait for a slot
├── PinBudgetExceeded     409  pinning one more would leave no room for the others
├── AdapterInUse          409  leased, waited for or on its way: it can't be evicted now
├── AdapterPinned         409  pinned: unpin it first
├── NotPinned             404
└── EngineUnavailable     503  the engine did not answer
"""


class EngineError(Exception):
    """Base of the tree. `code` is stable and meant for programs, the message for people."""

    status = 500
    code = "engine_error"

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class AdapterLoadFailed(EngineError):
    status = 503
    code = "adapter_load_failed"

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"adapter {reference} could not be loaded: {reason}")


class SlotWaitTimeout(EngineError):
    status = 503
    code = "slot_wait_timeout"

    def __init__(self, reference: str, waited_seconds: float) -> None:
        super().__init__(
            f"adapter {reference} got no GPU slot within {waited_seconds:.0f} s",
            retry_after_seconds=1,
        )


class QueueFull(EngineError):
    status = 429
    code = "queue_full"

    def __init__(self, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"{limit} requests already wait for a GPU slot", retry_after_seconds=retry_after_seconds
        )


class PinBudgetExceeded(EngineError):
    status = 409
    code = "pin_budget_exceeded"

    def __init__(self, tier: str, budget: int, capacity: int) -> None:
        super().__init__(
            f"{budget} of {capacity} places in the {tier} tier may be pinned, and they all are: "
            "one must stay free for the other adapters"
        )


class AdapterInUse(EngineError):
    status = 409
    code = "adapter_in_use"

    def __init__(self) -> None:
        super().__init__("requests hold, await or load this adapter: it can't be evicted now")


class AdapterPinned(EngineError):
    status = 409
    code = "adapter_pinned"

    def __init__(self) -> None:
        super().__init__("this adapter is pinned: unpin it first")


class NotPinned(EngineError):
    status = 404
    code = "not_pinned"

    def __init__(self) -> None:
        super().__init__("this adapter is not pinned")


class EngineUnavailable(EngineError):
    status = 503
    code = "engine_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the engine does not answer: {reason}")
