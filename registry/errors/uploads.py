"""Errors of what a client sent: bodies, uploads, archives, and the adapter in them."""

from registry.errors.base import RegistryError
from registry.errors.defects import Defect


class BodyTooLarge(RegistryError):
    """The request body exceeds the limit."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes")


class BodyTimeout(RegistryError):
    status = 408
    code = "body_timeout"

    def __init__(self) -> None:
        super().__init__("the request body did not come, or came too slowly")


class BodyMemoryFull(RegistryError):
    status = 503
    code = "body_memory_full"
    retry_after_seconds = 2

    def __init__(self) -> None:
        super().__init__(
            "the memory for request bodies is used up, or this caller has its share: try again"
        )


class BodyTooDeep(RegistryError):
    status = 400
    code = "body_too_deep"

    def __init__(self, levels: int) -> None:
        super().__init__(f"the JSON of the request is nested deeper than {levels} levels")


class BodyTooManyValues(RegistryError):
    status = 413
    code = "body_too_many_values"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the JSON of the request has more than {limit} values")


class BodyNotText(RegistryError):
    status = 400
    code = "body_not_text"

    def __init__(self) -> None:
        super().__init__("the request body is not UTF-8, as JSON has to be, or a character is half")


class InvalidUpload(RegistryError):
    status = 400
    code = "invalid_upload"


class TooManyUploads(RegistryError):
    status = 429
    code = "too_many_uploads"

    def __init__(self, limit: int, tenant: str | None = None) -> None:
        """`tenant`: it is at its share of the limit, or all are taken."""
        whose = "" if tenant is None else f", or the tenant {tenant} has its share of these"
        super().__init__(f"{limit} uploads are under way already{whose}: try again later")


class TooManyJobs(RegistryError):
    status = 429
    code = "too_many_jobs"
    retry_after_seconds = 10

    def __init__(self, limit: int, tenant: str) -> None:
        super().__init__(
            f"{limit} registrations of the tenant {tenant} have not ended yet "
            "(ADAPTRY_MAX_TENANT_JOBS): try again later"
        )


class TooManyInspections(RegistryError):
    status = 429
    code = "too_many_inspections"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} inspections are under way already: try again later")


class InvalidArchive(RegistryError):
    """The archive can't be imported; `code` names the defect."""

    status = 422

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class InvalidAdapter(RegistryError):
    """The adapter's files can't be served as they are; `code` names the defect."""

    status = 422

    def __init__(self, code: Defect, detail: str) -> None:
        super().__init__(detail)
        self.code = code
