"""Engine errors: everything between a request and its adapter's slot, with HTTP statuses.

EngineError
├── AdapterLoadFailed     503  this engine could not load it into memory
├── AdapterFilesMissing   503  the store answers, but has no files of this version
├── AdapterStoreAway      503  the store does not answer
├── AdapterUnfit          503  this engine can't serve it: the rank, a module or a shape
├── LoadsStalled          503  earlier reads of files hang, and none is begun until one returns
├── SlotWaitTimeout       503  no slot became free in time
├── HostWaitTimeout       503  no place in host memory became free in time
├── EvictionTimeout       503  requests held the adapter for too long
├── QueueFull             429  too many requests wait for a slot
├── AdapterTooLarge       503  it doesn't fit into the host tier beside the pins
├── PinBudgetExceeded     409  one more pin would leave no place for other adapters
├── PinBytesExceeded      409  one more pin would leave too few bytes for other adapters
├── AdapterInUse          409  leased, waited for or being loaded: it can't be evicted now
├── AdapterPinned         409  pinned: unpin it first
├── NotPinned             404
├── AlreadyLoaded         400  on vLLM's routes, without `load_inplace`
├── AdapterNotUsed        400  the route does not use the adapter that `model` names
├── GenerationUnsupported 400  the engine embeds or classifies
├── GrammarTooComplex     400  `structured_outputs` would take too long to compile
├── GrammarLimit          429  the caller began too many new grammars in a minute
├── TenantLimitReached    429; 409 if a retry can't help: a limit of the tenant
├── EngineDied            503  the engine has died, or was shut down
└── EngineUnavailable     503  the engine did not answer
"""

from engine.types import LoadFailure

RETRY_AFTER_FAILURE_SECONDS = 5


class EngineError(Exception):
    """Base class. `code` is stable and meant for programs, the message for people."""

    status = 500
    code = "engine_error"
    detail = ""

    def __init__(self, detail: str = "", *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = detail or self.detail
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[object, ...]:
        """Errors are sent to other processes, and `args` lacks the arguments of `__init__`."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


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
    detail = "this adapter is leased, waited for or being loaded: it can't be evicted now"


class AdapterPinned(EngineError):
    status = 409
    code = "adapter_pinned"
    detail = "this adapter is pinned: unpin it first"


class NotPinned(EngineError):
    status = 404
    code = "not_pinned"
    detail = "this adapter is not pinned"


class AlreadyLoaded(EngineError):
    status = 400
    code = "already_loaded"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is served already; `load_inplace` replaces it")


class AdapterNotUsed(EngineError):
    status = 400
    code = "adapter_not_used"

    def __init__(self, reference: str) -> None:
        super().__init__(f"this route does not generate with adapters: {reference} was not used")


class GenerationUnsupported(EngineError):
    status = 400
    code = "generation_unsupported"
    detail = "this server does not generate text: its engine embeds or classifies"


class GrammarTooComplex(EngineError):
    status = 400
    code = "grammar_too_complex"

    def __init__(self, why: str) -> None:
        super().__init__(f"the grammar of `structured_outputs` is too complex: {why}")


class GrammarLimit(EngineError):
    status = 429
    code = "grammar_limit"


class TenantLimitReached(EngineError):
    """`limit`: the tenant's field. Without `retry_after_seconds` a retry does not help."""

    status = 429
    code = "tenant_limit"

    def __init__(self, limit: str, detail: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.limit = limit
        self.status = 409 if retry_after_seconds is None else 429


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


def engine_codes() -> frozenset[str]:
    """Every code that one of these errors can have."""
    kinds = [*EngineError.__subclasses__(), *AdapterLoadFailed.__subclasses__()]
    return frozenset({EngineError.code, *(kind.code for kind in kinds)})
