"""References `name`, `name@alias` and `name:3`, written alike in HTTP, CLI and docs.

The name of a tenant's adapter always begins with the tenant's: `acme~support`, `acme~support:3`.
"""

import re
from dataclasses import dataclass

from registry.errors import InvalidReference

DEFAULT_ALIAS = "default"
MAX_VERSION = 2**31 - 1

MAX_NAME = 64

PLATFORM = ""
"""As the owner of names and sets of prompts, in place of a tenant."""

_BARE = r"[a-z0-9][a-z0-9._-]{0,63}"
_TENANT = r"[a-z0-9][a-z0-9-]{0,31}"
ADAPTER_NAME_PATTERN = rf"(?:{_TENANT}~)?{_BARE}"
ALIAS_NAME_PATTERN = _BARE
TENANT_NAME_PATTERN = _TENANT

_NAME = re.compile(_BARE, re.ASCII)
_ADAPTER_NAME = re.compile(ADAPTER_NAME_PATTERN, re.ASCII)
_TENANT_NAME = re.compile(_TENANT, re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
_RULE = "lower-case letters, digits, '.', '_' and '-', at most 64, a letter or digit first"
_TENANT_RULE = "lower-case letters, digits and '-', at most 32, a letter or digit first"


@dataclass(frozen=True, slots=True)
class AdapterReference:
    """An adapter and one of its versions: by number, or by alias.

    With neither, it means the alias `default`.
    """

    adapter: str
    alias: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.adapter}:{self.version}"
        return self.adapter if self.alias is None else f"{self.adapter}@{self.alias}"


def parse_reference(text: str) -> AdapterReference:
    """Parse `name`, `name@alias` or `name:3`. Raises InvalidReference."""
    name, at, alias = text.partition("@")
    if at:
        return AdapterReference(check_name(name), alias=check_alias(alias))
    name, colon, number = text.partition(":")
    if not colon:
        return AdapterReference(check_name(name))
    if not _NUMBER.fullmatch(number) or int(number) > MAX_VERSION:
        raise InvalidReference(f"{_quote(number)} is not a version number")
    return AdapterReference(check_name(name), version=int(number))


def parse_version(text: str) -> tuple[str, int]:
    """Adapter and number of `name:3`. Raises InvalidReference for an alias too."""
    reference = parse_reference(text)
    if reference.version is None:
        raise InvalidReference(f"{_quote(text)} names no version: write name:number")
    return reference.adapter, reference.version


def check_name(name: str) -> str:
    """Return the adapter's name if it is valid. Raises InvalidReference."""
    if len(name) > MAX_NAME or not _ADAPTER_NAME.fullmatch(name):
        raise InvalidReference(f"{_quote(name)} is no adapter name: {_RULE}; before it tenant~")
    return name


def check_alias(name: str) -> str:
    """Return the alias's name if it is valid. Raises InvalidReference."""
    if not _NAME.fullmatch(name):
        raise InvalidReference(f"{_quote(name)} is no alias name: {_RULE}")
    return name


def check_tenant(name: str) -> str:
    """Return the tenant's name if it is valid. Raises InvalidReference."""
    if not _TENANT_NAME.fullmatch(name):
        raise InvalidReference(f"{_quote(name)} is no tenant name: {_TENANT_RULE}")
    return name


def tenant_of(adapter: str) -> str | None:
    """The tenant in an adapter's name; None for the platform's own adapters."""
    tenant, tilde, _ = adapter.partition("~")
    return tenant if tilde else None


def _quote(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
