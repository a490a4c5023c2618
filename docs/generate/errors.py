"""The page of error codes, from the classes that carry them and the list that explains them."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from types import ModuleType

from docs.generate.markdown import code, page, table
from engine import errors as engine_errors
from registry import errors as registry_errors

EXPLAINED = re.compile(r"^[├└]── (\w+) +(\d{3})(.*)$", re.MULTILINE)
BY_STATE = ("pending", "rejected", "quarantined", "retired", "purged")
ELSEWHERE = {
    "InvalidAdapter": "[codes of the inspection](../inspection.md#codes)",
    "InvalidArchive": "[codes of an import](../transfer.md#import)",
    "AdapterUnfit": "[codes of the inspection](../inspection.md#codes)",
    "ProbeFailed": "[codes of a probe](../inspection.md#probe)",
}
WITHOUT_CLASS = (
    ("header_timeout", 408, "the request's headers did not arrive in time"),
    ("headers_too_large", 431, "too many headers, or too many bytes of them"),
    ("invalid_http", 400, "what arrived is not HTTP"),
    ("method_not_allowed", 405, "the route exists, but not for this method"),
    ("not_found", 404, "there is no such route"),
    ("parameter_unsupported", 422, "TGI's or LoRAX's parameter has no counterpart here"),
    ("generation_incomplete", 500, "vLLM ended the generation, and does not say why"),
    ("not_implemented", 501, "vLLM knows the route or the option, but this engine does not"),
)
INTRODUCTION = """\
Every error has a stable code for programs, and a readable sentence. Our own routes respond with
problem details (RFC 9457, `application/problem+json`), vLLM's routes in OpenAI's format, and
`/v1/messages` in Anthropic's, with the same code in `error.code`, TGI's and LoRAX's routes in
theirs, with the code beside `error`. A request that does not match
the route's schema is `invalid_request`, with status 422, or 400 on vLLM's routes."""

SECTIONS = (
    ("Registry", registry_errors, registry_errors.RegistryError),
    ("Engine and cache", engine_errors, engine_errors.EngineError),
)


def error_page() -> str:
    sections = [
        part
        for heading, module, _ in SECTIONS
        for part in (
            f"## {heading}",
            table(("code", "status", "meaning"), _merged(_rows(module))),
        )
    ]
    of_http = [(code(name), _status(status), meaning) for name, status, meaning in WITHOUT_CLASS]
    http = ("## HTTP", table(("code", "status", "meaning"), of_http))
    return page("Error codes", INTRODUCTION, *sections, *http)


def explained(module: ModuleType) -> dict[str, tuple[str, str]]:
    """Status and meaning of each class, from the list in the module's docstring."""
    found = EXPLAINED.findall(module.__doc__ or "")
    return {name: (status, meaning.strip(" ;")) for name, status, meaning in found}


def _rows(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    for name, (status, meaning) in explained(module).items():
        if name == "VersionUnavailable":
            yield from map(_of_state, BY_STATE)
        elif name in ELSEWHERE:
            yield ELSEWHERE[name], _status(status), meaning
        else:
            yield code(getattr(module, name).code), _status(status), meaning or _words(name)


def _of_state(state: str) -> tuple[str, str, str]:
    error = registry_errors.VersionUnavailable("", state, None)
    return code(error.code), _status(error.status), f"the version is {state}, and not served"


def _merged(rows: Iterator[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """One row for each code, by its name."""
    found: dict[tuple[str, str], list[str]] = {}
    for what, status, meaning in rows:
        found.setdefault((what, status), []).append(meaning)
    return sorted((*key, "; or ".join(meanings)) for key, meanings in found.items())


def _status(status: str | int) -> str:
    return f"{status} {HTTPStatus(int(status)).phrase}"


def _words(class_name: str) -> str:
    return " ".join(re.findall(r"[A-Z][a-z]+", class_name)).lower()
