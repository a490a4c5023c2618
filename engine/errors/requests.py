"""Errors of requests: what this engine does not answer."""

from engine.errors.base import RETRY_AFTER_FAILURE_SECONDS, EngineError


class AlreadyLoaded(EngineError):
    status = 400
    code = "already_loaded"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter "
            "in place, set 'load_inplace' to True."
        )


class RegistrationPending(EngineError):
    """The client waits no longer. The same request, sent again, waits for the same job."""

    status = 503
    code = "registration_pending"

    def __init__(self, name: str, job: int) -> None:
        super().__init__(
            f"the registration of {name} goes on as job {job} (/api/v1/jobs/{job}): send the same "
            "request again to wait for it",
            retry_after_seconds=RETRY_AFTER_FAILURE_SECONDS,
        )


class AdapterBusy(EngineError):
    status = 503
    code = "adapter_busy"

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"{name} has been loaded or unloaded by other requests for {seconds:.0f} s: this one "
            "has changed nothing",
            retry_after_seconds=RETRY_AFTER_FAILURE_SECONDS,
        )


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


class GrammarUnsatisfiable(EngineError):
    status = 400
    code = "grammar_unsatisfiable"

    def __init__(self, why: str = "it can't be compiled, or no token continues the text") -> None:
        super().__init__(
            "the grammar of `structured_outputs`, `response_format` or a tool can't be followed: "
            f"{why}"
        )


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


class PriorityNotAllowed(EngineError):
    status = 403
    code = "priority_not_allowed"
    detail = "a tenant's `priority` is 0 or more: its requests go behind others, not before them"


class SocketUnsupported(EngineError):
    """Of a server in front of others: its requests may go to any of them, a session to none."""

    status = 501
    code = "socket_unsupported"
    detail = (
        "WebSockets, such as /v1/realtime, are not passed on to replicas or stock servers: use a "
        "server with an engine of its own"
    )


class ResponseUnsupported(EngineError):
    """A stock server tells neither when its work behind an answer ends nor whose a response is."""

    status = 400
    code = "response_unsupported"

    def __init__(self, member: str) -> None:
        super().__init__(
            f"`{member}` is not passed on to stock servers: use a server with an engine of its own"
        )


class TraceOff(EngineError):
    status = 409
    code = "trace_off"
    detail = "this server records no trace: ADAPTRY_TRACE_BYTES is 0"


class HistoryOff(EngineError):
    status = 409
    code = "history_off"
    detail = "this server keeps no history of its cache: ADAPTRY_HISTORY_HOURS is 0"


class TimeOutOfRange(EngineError):
    status = 422
    code = "time_out_of_range"


class TraceUnreadable(EngineError):
    status = 503
    code = "trace_unreadable"

    def __init__(self, why: str) -> None:
        super().__init__(f"the recorded trace can't be read: {why}")


class ParameterUnsupported(EngineError):
    """TGI's or LoRAX's, without a counterpart here."""

    status = 422
    code = "parameter_unsupported"

    def __init__(self, parameter: str, reason: str) -> None:
        shown = parameter if len(parameter) <= 80 else f"{parameter[:80]}…"
        super().__init__(f"{shown} is not supported: {reason}")


class GenerationIncomplete(EngineError):
    """vLLM ended it, and does not say why."""

    status = 500
    code = "generation_incomplete"
    detail = "the generation ended before it was complete"


class AudioStopped(EngineError):
    status = 408
    code = "audio_stopped"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no audio came for {seconds:g} s while it was waited for")
