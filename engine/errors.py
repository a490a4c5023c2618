"""What can go wrong between a request and its adapter's slot; each knows its HTTP status.

EngineError
├── AdapterLoadFailed     503  its files could not be brought into memory
├── SlotWaitTimeout       503  no slot came free in time
├── QueueFull             429  too many requests wait for a slot
├── AdapterTooLarge       503  the host tier has no room for it, now or ever
├── PinBudgetExceeded     409  pinning one more would leave no place for the others
├── PinBytesExceeded      409  pinning one more would leave too few bytes for the others
├── AdapterInUse          409  leased, waited for or on its way: it can't be evicted now
├── AdapterPinned         409  pinned: unpin it first
├── NotPinned             404
├── AlreadyLoaded         400  by vLLM's routes, which take `load_inplace` for that
├── TenantLimitReached    429; 409 where waiting does not help: a limit of the tenant
├── EngineGone            503  the engine has died, or was shut down
└── EngineUnavailable     503  the engine did not answer
"""

from enum import StrEnum

RETRY_AFTER_FAILURE_SECONDS = 5


class EngineError(Exception):
    """Base of the tree. `code` is stable and meant for programs, the message for people."""

    status = 500
    code = "engine_error"

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[object, ...]:
        """Other processes are told of it too; what its `__init__` takes is not in `args`."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class LoadFailure(StrEnum):
    """Why an adapter could not be brought into memory."""

    FILES = "files"  # they are gone, cut off, or not those that were registered
    ADAPTER = "adapter"  # vLLM refuses it
    IO = "io"  # the disk did not answer as it should
    MEMORY = "memory"  # there was none left
    TIMEOUT = "timeout"
    ENGINE = "engine"  # a move broke, or the engine has gone

    @property
    def may_pass(self) -> bool:
        """The same load may work in a moment."""
        return self in (LoadFailure.IO, LoadFailure.MEMORY)

    @property
    def condemns(self) -> bool:
        """It will never work: nobody should ask for this version again."""
        return self in (LoadFailure.FILES, LoadFailure.ADAPTER)


class AdapterLoadFailed(EngineError):
    status = 503
    code = "adapter_load_failed"

    def __init__(
        self, reference: str, reason: str, failure: LoadFailure = LoadFailure.ADAPTER
    ) -> None:
        super().__init__(
            f"adapter {reference} could not be loaded: {reason}",
            retry_after_seconds=None if failure.condemns else RETRY_AFTER_FAILURE_SECONDS,
        )
        self.failure = failure


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

    def __init__(self, limit: int, retry_after_seconds: int, adapter: str | None = None) -> None:
        whose = "" if adapter is None else f" of adapter {adapter}"
        super().__init__(
            f"{limit} requests{whose} already wait for a GPU slot",
            retry_after_seconds=retry_after_seconds,
        )


class PinBudgetExceeded(EngineError):
    status = 409
    code = "pin_budget_exceeded"

    def __init__(self, tier: str, budget: int, capacity: int) -> None:
        super().__init__(
            f"{budget} of {capacity} places in the {tier} tier may be pinned, and they all are: "
            "one must stay free for the other adapters"
        )


class AdapterTooLarge(EngineError):
    status = 503
    code = "adapter_too_large"

    def __init__(self, size_bytes: int, pinned_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"the adapter takes {size_bytes} bytes, and the host tier has {budget_bytes}, "
            f"{pinned_bytes} of them pinned"
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


class AlreadyLoaded(EngineError):
    status = 400
    code = "already_loaded"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is served already; with `load_inplace` it becomes what is new")


class TenantLimitReached(EngineError):
    """`limit`: the tenant's field. Without `retry_after_seconds` it does not help to wait."""

    status = 429
    code = "tenant_limit"

    def __init__(self, limit: str, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.limit = limit
        if retry_after_seconds is None:
            self.status = 409


class EngineUnavailable(EngineError):
    """It is worth coming again, as an engine that ends is replaced: its supervisor knows when."""

    status = 503
    code = "engine_unavailable"

    def __init__(
        self, reason: str, *, retry_after_seconds: int = RETRY_AFTER_FAILURE_SECONDS
    ) -> None:
        super().__init__(
            f"the engine does not answer: {reason}", retry_after_seconds=retry_after_seconds
        )


class EngineGone(EngineUnavailable):
    """It has died, or was shut down: what was asked of it will never be answered."""


def engine_codes() -> frozenset[str]:
    """Every code that one of these errors can have."""
    return frozenset({EngineError.code, *(kind.code for kind in EngineError.__subclasses__())})
