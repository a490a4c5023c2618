"""Registry names for served names: the adapter that a load under any text is registered as."""

import re
import unicodedata
from hashlib import blake2s

from registry.references import MAX_NAME

_UNFIT = re.compile(r"[^a-z0-9._]+")
_DIGEST_BYTES = 4


def registry_name_of(served_name: str, tenant: str | None) -> str:
    """The same for the same text: what of it fits into a name, and 8 digits of its digest.

    `Org/Adapter-7B` is `org-adapter-7b-` and the digits, so that names that look alike share none.
    """
    letters = unicodedata.normalize("NFKD", served_name.casefold())
    plain = letters.encode("ascii", "ignore").decode()
    words = _UNFIT.sub("-", plain).strip("-._")
    digest = blake2s(served_name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    prefix = "" if tenant is None else f"{tenant}~"
    room = MAX_NAME - len(prefix) - len(digest) - 1
    kept = words[:room].rstrip("-._")
    return f"{prefix}{kept}-{digest}" if kept else f"{prefix}{digest}"
