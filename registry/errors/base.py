"""Base class of the registry's errors."""


class RegistryError(Exception):
    """Base class of the registry's errors. `code` is for programs, `detail` for people."""

    status = 500
    code = "registry_error"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled for other processes; `args` lacks what `__init__` takes."""
        return type(self).__new__, (type(self), *self.args), self.__dict__
