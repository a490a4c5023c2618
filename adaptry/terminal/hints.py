"""Hints after a refusal, by its code: the command that shows what there is."""

import re

_OF_KEY = "`adaptry whoami` shows what this key may do"
_HISTORY = "`adaptry adapter aliases {name} --alias {alias}` shows where it was"
_BY_CODE = {
    "invalid_reference": "`adaptry adapter list` shows all adapters",
    "model_not_found": "`adaptry adapter list` shows all adapters",
    "not_owner": _OF_KEY,
    "not_pinned": "`adaptry cache pins` shows what is pinned",
    "nothing_to_roll_back": _HISTORY,
    "pin_budget_exceeded": "`adaptry cache pins` shows what is pinned",
    "platform_only": _OF_KEY,
    "scope_missing": _OF_KEY,
    "unknown_adapter": "`adaptry adapter list` shows all adapters",
    "unknown_alias": "`adaptry adapter aliases {name}` shows its aliases",
    "unknown_delivery": "`adaptry webhook deliveries {number}` shows its deliveries",
    "unknown_job": "`adaptry job list` shows all jobs",
    "unknown_key": "`adaptry key list` shows all keys",
    "unknown_revision": _HISTORY,
    "unknown_served_name": "`adaptry adapter names {name}` shows those it has",
    "unknown_server": "`adaptry cache servers` shows all servers",
    "unknown_tenant": "`adaptry tenant list` shows all tenants",
    "unknown_version": "`adaptry adapter versions {name}` shows all versions",
    "unknown_webhook": "`adaptry webhook list` shows all webhooks",
}
_NAMED = re.compile(r"(?:^| )'(?P<name>[^']+)'|^(?P<moved>[^\s@]+)@(?P<alias>\S+)|(?P<number>\d+)")


def hint_of(code: str, detail: str) -> str:
    """What to type next, or nothing. `detail` begins with what the code is about."""
    hint = _BY_CODE.get(code, "")
    found = _NAMED.search(detail)
    if found is None and code == "unknown_tenant":  # of what the key itself names
        return _OF_KEY
    named = found.groupdict() if found else {}
    return hint.format(
        name=named.get("name") or named.get("moved") or "NAME",
        alias=named.get("alias") or "ALIAS",
        number=named.get("number") or "ID",
    )
