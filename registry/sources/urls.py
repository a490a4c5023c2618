"""Source URLs: which can be read at all, and which of them the settings allow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from registry.errors import InvalidSource, SourceNotAllowed

_PORTS = {"http": 80, "https": 443}
SCHEMES = frozenset({"hf", "s3", "gs", "azure", "mlflow", "oci", *_PORTS})
_SPELLINGS = {"az": "azure", "abfs": "azure", "abfss": "azure"}
_PLACES = {
    "hf": "an organisation",
    "s3": "a bucket",
    "gs": "a bucket",
    "azure": "a container",
    "mlflow": "a registered model",
    "oci": "a registry",
    "http": "a host",
    "https": "a host",
}
ARCHIVES = (".tar", ".tar.gz", ".tgz")

_MLFLOW = re.compile(r"(?P<name>[^/@]+)(?P<version>|/[1-9][0-9]{0,9}|@[^/@]+)")

# no blank, control character, backslash or lone surrogate
_ALLOWED = re.compile(r"[^\x00-\x20\x7f\\\ud800-\udfff]*")


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """`place` is a host (with its port), a bucket or container, an organisation of the Hub, or a
    model of MLflow."""

    scheme: str
    place: str
    path: str
    query: str = ""

    def __str__(self) -> str:
        """Without the query, which may hold a signature."""
        if self.scheme == "mlflow":
            return f"mlflow:/{self.place}{self.path}"
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def is_archive(self) -> bool:
        return self.path.lower().endswith(ARCHIVES)


def is_url(source: str) -> bool:
    return "://" in source or source.startswith("mlflow:/")


def parse_url(text: str) -> SourceUrl:
    """Raises InvalidSource."""
    scheme, rest = _split(text)
    if scheme not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise InvalidSource(f"{scheme[:40]!r} is none of the schemes that are read: {known}")
    if not _ALLOWED.fullmatch(text):
        raise InvalidSource("the URL holds a character that must be written as %XX")
    if scheme == "mlflow":
        return _mlflow_version(rest)
    return _web_url(text) if scheme in _PORTS else _named_place(scheme, rest)


def _split(text: str) -> tuple[str, str]:
    """The scheme and what follows. MLflow has one slash, like its own `models:/NAME/3`."""
    if text.startswith("mlflow:/"):
        return "mlflow", text.removeprefix("mlflow:/").removeprefix("/")
    scheme, _, rest = text.partition("://")
    return _SPELLINGS.get(scheme, scheme), rest


def _mlflow_version(rest: str) -> SourceUrl:
    """`NAME/3`, `NAME@alias`, or as a rule `NAME` alone."""
    found = _MLFLOW.fullmatch(rest)
    if found is None:
        raise InvalidSource("mlflow:/ must be followed by NAME/NUMBER or NAME@ALIAS")
    return SourceUrl("mlflow", found["name"], found["version"])


def _web_url(text: str) -> SourceUrl:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise InvalidSource(f"this is no URL: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidSource(
            "a source is shown to all who see the adapter: it can't hold a password"
        )
    if not host:
        raise InvalidSource("the URL names no host")
    if ".." in unquote(parts.path).split("/"):
        raise InvalidSource("the URL's path holds '..'")
    shown = f"[{host}]" if ":" in host else host
    place = shown if port == _PORTS[parts.scheme] else f"{shown}:{port}"
    return SourceUrl(parts.scheme, place, parts.path, parts.query)


def _named_place(scheme: str, rest: str) -> SourceUrl:
    place, slash, path = rest.partition("/")
    if not place or (".." in path.split("/")):
        raise InvalidSource(f"{scheme}:// must be followed by {_PLACES[scheme]} and a path")
    return SourceUrl(scheme, place, f"{slash}{path}")


class UrlRules:
    """Allowed URLs: `https://host`, `https://*.host/path`, `s3://bucket`, or any: `hf://`."""

    def __init__(self, rules: Sequence[str]) -> None:
        """Raises ValueError for an invalid rule."""
        self._rules = [_rule(rule) for rule in rules]

    def check(self, url: SourceUrl) -> None:
        """Raises SourceNotAllowed."""
        if not any(_matches(rule, url) for rule in self._rules):
            place = SourceUrl(url.scheme, url.place, "")
            raise SourceNotAllowed(
                f"{place} is not among the places to register from (ADAPTRY_SOURCE_URLS)"
            )


def _rule(text: str) -> SourceUrl:
    scheme, place = _split(text)
    if is_url(text) and scheme in SCHEMES and not place:
        return SourceUrl(scheme, "", "")
    try:
        rule = parse_url(text)
    except InvalidSource as error:
        raise ValueError(f"{text!r}: {error.detail}") from None
    if rule.place == "*":
        every = f"every {_PLACES[scheme].split()[-1]}"
        raise ValueError(f"{text!r} matches nothing: for {every}, write {scheme}://")
    if "*" in rule.place.removeprefix("*."):
        raise ValueError(
            f"{text!r} matches nothing: '*' may only stand for what a host begins with, as in "
            "https://*.example.com"
        )
    return rule


def _matches(rule: SourceUrl, url: SourceUrl) -> bool:
    if rule.scheme != url.scheme:
        return False
    if rule.place.startswith("*."):
        if not url.place.endswith(rule.place[1:]):
            return False
    elif rule.place not in ("", url.place):
        return False
    paths = [url.path, _WITHOUT_REVISION.get(url.scheme, str)(url.path)]
    folder = rule.path.rstrip("/")
    return not folder or any(f"{path}/".startswith(f"{folder}/") for path in paths)


def _without_revision(path: str) -> str:
    """A rule for a repository applies to all its revisions."""
    repository, slash, folder = path.removeprefix("/").partition("/")
    return f"/{repository.partition('@')[0]}{slash}{folder}"


def _without_tag(path: str) -> str:
    """The same for a repository of OCI. Neither a tag nor a digest holds a slash."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('@')[0].partition(':')[0]}"


_WITHOUT_REVISION = {"hf": _without_revision, "oci": _without_tag}
