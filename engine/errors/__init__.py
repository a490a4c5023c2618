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
├── AdapterForcedOut      503  an operator evicted it by force while it answered
├── NotPinned             404
├── AlreadyLoaded         400  on vLLM's routes, without `load_inplace`
├── RegistrationPending   503  on vLLM's routes: a job goes on; the same request waits for it
├── AdapterBusy           503  other requests load or unload this adapter for too long
├── AdapterNotUsed        400  the route does not use the adapter that `model` names
├── GenerationUnsupported 400  the engine embeds or classifies
├── ParameterUnsupported  422  TGI's or LoRAX's, without a counterpart here
├── GenerationIncomplete  500  vLLM ended it, and does not say why
├── AudioStopped          408  the client of a realtime session sends nothing
├── GrammarTooComplex     400  `structured_outputs` would take too long to compile
├── GrammarUnsatisfiable  400  the grammar accepts no text, or no token follows it
├── GrammarLimit          429  the caller began too many new grammars in a minute
├── PriorityNotAllowed    403  a tenant's request would go before those of others
├── ResponseUnsupported   400  in the background, or of a stored one, over stock servers
├── SocketUnsupported     501  a WebSocket, in front of replicas or stock servers
├── HistoryOff            409  this server records no history of its cache
├── TimeOutOfRange        422  no history of that time is kept
├── TraceOff              409  this server records no trace
├── TraceUnreadable       503  the disk does not give it back
├── TenantLimitReached    429; 409 if a retry can't help: a limit of the tenant
├── AnswerTimeout         504  nothing more of the answer came from the engine's server in time
├── EngineDied            503  the engine has died, or was shut down
├── AdapterLost           503  a stock server has unloaded it, or was started again
├── EngineSuspended       503  an operator has suspended it
├── EnginePaused          503  an operator has paused it
├── EngineAsleep          503  an operator has put it to sleep
├── CallRefused           409  a worker's method that the cache, or another route, has to call
├── SleepRefused          409  it would leave the base model or an adapter unsure
├── WeightUpdateRefused   409  versions are bound to the base model that was loaded
└── EngineUnavailable     503  the engine did not answer
"""

from engine.errors.availability import (
    AdapterLost,
    AnswerTimeout,
    CallRefused,
    EngineAsleep,
    EngineDied,
    EnginePaused,
    EngineSuspended,
    EngineUnavailable,
    SleepRefused,
    WeightUpdateRefused,
)
from engine.errors.base import (
    RETRY_AFTER_FAILURE_SECONDS,
    EngineError,
)
from engine.errors.cache import (
    AdapterForcedOut,
    AdapterInUse,
    AdapterPinned,
    AdapterTooLarge,
    EvictionTimeout,
    HostWaitTimeout,
    NotPinned,
    PinBudgetExceeded,
    PinBytesExceeded,
    QueueFull,
    SlotWaitTimeout,
)
from engine.errors.loads import (
    AdapterFilesMissing,
    AdapterLoadFailed,
    AdapterStoreAway,
    AdapterUnfit,
    LoadsStalled,
)
from engine.errors.requests import (
    AdapterBusy,
    AdapterNotUsed,
    AlreadyLoaded,
    AudioStopped,
    GenerationIncomplete,
    GenerationUnsupported,
    GrammarLimit,
    GrammarTooComplex,
    GrammarUnsatisfiable,
    HistoryOff,
    ParameterUnsupported,
    PriorityNotAllowed,
    RegistrationPending,
    ResponseUnsupported,
    SocketUnsupported,
    TenantLimitReached,
    TimeOutOfRange,
    TraceOff,
    TraceUnreadable,
)

__all__ = [
    "RETRY_AFTER_FAILURE_SECONDS",
    "AdapterBusy",
    "AdapterFilesMissing",
    "AdapterForcedOut",
    "AdapterInUse",
    "AdapterLoadFailed",
    "AdapterLost",
    "AdapterNotUsed",
    "AdapterPinned",
    "AdapterStoreAway",
    "AdapterTooLarge",
    "AdapterUnfit",
    "AlreadyLoaded",
    "AnswerTimeout",
    "AudioStopped",
    "CallRefused",
    "EngineAsleep",
    "EngineDied",
    "EngineError",
    "EnginePaused",
    "EngineSuspended",
    "EngineUnavailable",
    "EvictionTimeout",
    "GenerationIncomplete",
    "GenerationUnsupported",
    "GrammarLimit",
    "GrammarTooComplex",
    "GrammarUnsatisfiable",
    "HistoryOff",
    "HostWaitTimeout",
    "LoadsStalled",
    "NotPinned",
    "ParameterUnsupported",
    "PinBudgetExceeded",
    "PinBytesExceeded",
    "PriorityNotAllowed",
    "QueueFull",
    "RegistrationPending",
    "ResponseUnsupported",
    "SleepRefused",
    "SlotWaitTimeout",
    "SocketUnsupported",
    "TenantLimitReached",
    "TimeOutOfRange",
    "TraceOff",
    "TraceUnreadable",
    "WeightUpdateRefused",
    "engine_codes",
]


def engine_codes() -> frozenset[str]:
    """Every code that one of these errors can have."""
    families = (EngineError, AdapterLoadFailed, EngineSuspended)
    kinds = [kind for family in families for kind in family.__subclasses__()]
    return frozenset({EngineError.code, *(kind.code for kind in kinds)})
