"""Errors of the cache: waits, sizes, pins and evictions."""

from engine.errors.base import EngineError


class SlotWaitTimeout(EngineError):
    status = 503
    code = "slot_wait_timeout"

    def __init__(self, reference: str, waited_seconds: float) -> None:
        detail = f"adapter {reference} got no GPU slot within {waited_seconds:.0f} s"
        super().__init__(detail, retry_after_seconds=1)


class HostWaitTimeout(EngineError):
    status = 503
    code = "host_wait_timeout"
    detail = "this adapter got no place in host memory in time"


class EvictionTimeout(EngineError):
    status = 503
    code = "eviction_timeout"
    detail = "requests still hold this adapter: it admits others again"


class QueueFull(EngineError):
    status = 429
    code = "queue_full"

    def __init__(self, limit: int, retry_after_seconds: int, adapter: str | None = None) -> None:
        whose = "" if adapter is None else f" of adapter {adapter}"
        super().__init__(
            f"{limit} requests{whose} already wait for a GPU slot",
            retry_after_seconds=retry_after_seconds,
        )


class AdapterTooLarge(EngineError):
    status = 503
    code = "adapter_too_large"

    def __init__(self, size_bytes: int, pinned_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"the adapter takes {size_bytes} bytes, and the host tier has {budget_bytes}, "
            f"{pinned_bytes} of them pinned"
        )


class PinBudgetExceeded(EngineError):
    status = 409
    code = "pin_budget_exceeded"

    def __init__(self, tier: str, budget: int, capacity: int) -> None:
        super().__init__(
            f"{budget} of {capacity} places in the {tier} tier may be pinned, and they all are: "
            "one must stay free for the other adapters"
        )


class PinBytesExceeded(EngineError):
    status = 409
    code = "pin_budget_exceeded"

    def __init__(self, pinned_bytes: int, largest_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"{pinned_bytes} bytes of the host tier would be pinned, and of its {budget_bytes} "
            f"the largest other adapter needs {largest_bytes}"
        )


class AdapterInUse(EngineError):
    status = 409
    code = "adapter_in_use"
    detail = "this adapter is leased, waited for or being loaded: it can't be evicted now"


class AdapterForcedOut(EngineError):
    """Its requests are ended. The same request, sent again, loads it again."""

    status = 503
    code = "adapter_forced_out"

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"an operator has evicted {reference} while it answered", retry_after_seconds=1
        )


class AdapterPinned(EngineError):
    status = 409
    code = "adapter_pinned"
    detail = "this adapter is pinned: unpin it first"


class NotPinned(EngineError):
    status = 404
    code = "not_pinned"
    detail = "this adapter is not pinned"
