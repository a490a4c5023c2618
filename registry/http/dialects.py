"""Error dialects: the document of an error as the clients of its route read it.

Problem details (RFC 9457) on our own routes, Anthropic's and TGI's formats on theirs, OpenAI's
elsewhere.
"""

from registry.redaction import redact

MEDIA_TYPE = "application/problem+json"

_OWN_PATHS = ("/api/", "/metrics", "/healthz", "/readyz", "/console")
_ANTHROPIC_PATHS = ("/v1/messages",)
_RESPONSES_PATHS = ("/v1/responses",)
_TGI_PATHS = ("/", "/generate_stream")
_TGI_TYPES = {
    400: "validation",
    404: "not_found",
    413: "validation",
    422: "validation",
    429: "overloaded",
}
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


def is_responses(path: str) -> bool:
    """Whether a stream of the route has OpenAI's numbered events with names."""
    return path.startswith(_RESPONSES_PATHS)


def is_tgi(path: str) -> bool:
    """Whether the clients of the route read the format of TGI and LoRAX."""
    return path in _TGI_PATHS


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


def tgi_error(status: int, code: str, message: str) -> dict[str, object]:
    """`{"error": message, "error_type"}` of TGI and LoRAX, with our stable code beside them."""
    kind = _TGI_TYPES.get(status, "generation" if status >= 500 else code)
    return {"error": redact(message), "error_type": kind, "code": code}
