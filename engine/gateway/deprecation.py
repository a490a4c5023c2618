"""The warning in each answer of a version that will not be served for ever."""

from urllib.parse import quote

from engine.types import AdapterVersion

_SHOWN = " !#$&'()*+,/:;=?@[]^`{|}<>\"\\"


def deprecation_headers(version: AdapterVersion) -> dict[str, str]:
    """`deprecation` as RFC 9745 has it, a date in seconds, and why; nothing for all others.

    The reason is percent-encoded where a header could not hold it.
    """
    if version.deprecated_at is None:
        return {}
    headers = {"deprecation": f"@{version.deprecated_at}"}
    if version.deprecation_reason:
        headers["x-adaptry-deprecation"] = quote(version.deprecation_reason, safe=_SHOWN)
    return headers
