"""Base class of the registry's errors."""


class RegistryError(Exception):
    """Base of the tree. `code` is for programs, `detail` for people."""

    status = 500
    code = "registry_error"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        """Other processes are told of it too; what its `__init__` takes is not in `args`."""
        return type(self).__new__, (type(self), *self.args), self.__dict__
