"""Base class of the engine errors."""

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
