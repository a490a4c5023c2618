"""Errors of a dependency that is unavailable: the engine, the disk, the database."""

from registry.errors.base import RegistryError


class InternalError(RegistryError):
    """An error that nothing expected. The log has its place under the id."""

    status = 500
    code = "internal_error"

    def __init__(self, error_id: str) -> None:
        super().__init__(f"an unexpected error: the server's log has it as {error_id}")
        self.error_id = error_id


class TooManyStreams(RegistryError):
    status = 503
    code = "too_many_streams"

    def __init__(self, limit: int, tenant: str | None = None) -> None:
        """`tenant`: it is at its share of the limit, or all are taken."""
        whose = "" if tenant is None else f", or the tenant {tenant} has its share of these"
        detail = f"{limit} streams of events are open{whose}; come back when one has ended"
        super().__init__(detail)


class EngineAway(RegistryError):
    status = 503
    code = "engine_unavailable"
    retry_after_seconds = 5


class WarmingFailed(RegistryError):
    """`for_good`: the files are damaged, and a retry does not help."""

    status = 503
    code = "warming_failed"

    def __init__(
        self, detail: str, *, for_good: bool = False, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(detail)
        if for_good:
            self.status = 422
        else:
            self.retry_after_seconds = retry_after_seconds


class ProbeFailed(RegistryError):
    """`code` names what the probe found."""

    status = 422

    def __init__(self, reference: str, code: str) -> None:
        super().__init__(f"{reference} did not pass its probe: no alias was moved to it")
        self.code = code


class PromotionTimeout(RegistryError):
    status = 504
    code = "promotion_timeout"

    def __init__(self, reference: str, timeout_seconds: float) -> None:
        super().__init__(
            f"{reference} was not ready in the engine within {timeout_seconds:g} s: "
            "no alias was moved to it"
        )


class StoreUnavailable(RegistryError):
    status = 503
    code = "store_unavailable"
    retry_after_seconds = 5


class DatabaseUnavailable(RegistryError):
    status = 503
    code = "database_unavailable"
    retry_after_seconds = 1
