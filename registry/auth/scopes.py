"""What a key may be good for."""

from enum import StrEnum


class Scope(StrEnum):
    """`admin` may do everything; the others do not include one another."""

    INFER = "infer"  # ask models and adapters, and look adapters up
    PUBLISH = "publish"  # register versions, describe them, move aliases, retire
    OPERATE = "operate"  # steer the cache, quarantine, collect garbage; metrics, events
    ADMIN = "admin"  # keys, webhooks, import and export, and all of the above


EVERY_SCOPE = frozenset(Scope)
