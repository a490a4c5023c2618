"""Error dialects: the document of an error as the clients of its route read it.

Problem details (RFC 9457) on our own routes, Anthropic's format on its routes, OpenAI's elsewhere.
"""

from registry.redaction import redact

MEDIA_TYPE = "application/problem+json"

_OWN_PATHS = ("/api/", "/metrics", "/healthz", "/readyz", "/console")
_ANTHROPIC_PATHS = ("/v1/messages",)
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_own(path: str) -> bool:
    """Whether errors there are problem details."""
    return path.startswith(_OWN_PATHS)


def is_anthropic(path: str) -> bool:
    """Whether the clients of the route read Anthropic's format."""
    return path.startswith(_ANTHROPIC_PATHS)


def problem_content(
    *, path: str, status: int, code: str, title: str, detail: str
) -> dict[str, object]:
    """Members common to all problems."""
    return {
        "type": f"urn:adaptry:problem:{code}",
        "title": title,
        "status": status,
        "detail": redact(detail),
        "code": code,
        "instance": redact(path),
    }


def anthropic_error(status: int, code: str, message: str) -> dict[str, object]:
    """`{"type": "error", "error": {type, message}}`, with our stable code beside them."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": redact(message), "code": code}}
