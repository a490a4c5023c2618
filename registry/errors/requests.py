"""Errors of requests that are malformed or name something unknown."""

from collections.abc import Sequence
from datetime import datetime

from registry.errors.base import RegistryError


class InvalidReference(RegistryError):
    status = 400
    code = "invalid_reference"


class InvalidPageToken(RegistryError):
    status = 400
    code = "invalid_page_token"

    def __init__(self) -> None:
        super().__init__("page_token is not one that an earlier page gave")


class ValueRefused(RegistryError):
    status = 422
    code = "invalid_request"

    def __init__(self) -> None:
        super().__init__("a value of the request is none that the database can hold")


class InvalidEventId(RegistryError):
    status = 400
    code = "invalid_event_id"

    def __init__(self) -> None:
        super().__init__("Last-Event-ID is not the id of an event")


class UnknownAdapter(RegistryError):
    status = 404
    code = "unknown_adapter"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no adapter {name!r}")


class InvalidServedName(RegistryError):
    status = 400
    code = "invalid_served_name"


class UnknownModel(RegistryError):
    status = 404
    code = "model_not_found"

    def __init__(self, model: str, why: str | None = None) -> None:
        shown = model if len(model) <= 80 else f"{model[:80]}…"
        super().__init__(f"the model {shown!r} does not exist" + (f": {why}" if why else ""))


class UnknownServedName(RegistryError):
    status = 404
    code = "unknown_served_name"

    def __init__(self, adapter: str, name: str) -> None:
        super().__init__(f"adapter {adapter!r} has no served name {name!r}")


class UnknownVersion(RegistryError):
    status = 404
    code = "unknown_version"

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"adapter {name!r} has no version {number}")


class UnknownAlias(RegistryError):
    status = 404
    code = "unknown_alias"

    def __init__(self, name: str, alias: str, at: datetime | None = None) -> None:
        then = f"had no alias {alias!r} at {at.isoformat()}" if at else f"has no alias {alias!r}"
        super().__init__(f"adapter {name!r} {then}")


class UnknownRevision(RegistryError):
    status = 404
    code = "unknown_revision"

    def __init__(self, reference: str, what: str) -> None:
        super().__init__(f"{reference} had no state {what}")


class VersionUnavailable(RegistryError):
    """A requested version can't be served. The code names the state: `version_retired`, …"""

    status = 409

    def __init__(self, reference: str, state: str, reason: str | None) -> None:
        super().__init__(f"{reference} is {state}" + (f": {reason}" if reason else ""))
        self.code = f"version_{state}"
        if state in ("retired", "purged"):
            self.status = 410


class UnknownWebhook(RegistryError):
    status = 404
    code = "unknown_webhook"

    def __init__(self, webhook_id: int) -> None:
        super().__init__(f"there is no webhook {webhook_id}")


class UnknownPromptSet(RegistryError):
    status = 404
    code = "unknown_prompt_set"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no set of prompts {name!r}")


class UnknownDelivery(RegistryError):
    status = 404
    code = "unknown_delivery"

    def __init__(self, webhook_id: int, delivery_id: int) -> None:
        super().__init__(f"webhook {webhook_id} has no delivery {delivery_id}")


class UnknownJob(RegistryError):
    status = 404
    code = "unknown_job"

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no job {number}")


class UnknownServer(RegistryError):
    status = 404
    code = "unknown_server"

    def __init__(self, name: str) -> None:
        super().__init__(f"no server {name!r} has started on this database")


class UnknownBase(RegistryError):
    status = 404
    code = "unknown_base"

    def __init__(self, name: str) -> None:
        super().__init__(f"no base model {name!r} is known: `adaptry base list` shows all")


class AmbiguousBase(RegistryError):
    status = 400
    code = "ambiguous_base"

    def __init__(self, name: str, found: Sequence[str]) -> None:
        super().__init__(f"{name!r} may be any of {', '.join(found)}: name one of them")


class SameBase(RegistryError):
    status = 400
    code = "same_base"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is one base model: name two")
