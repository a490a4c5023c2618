"""vLLM's series about HTTP requests, which a second making of its middleware would leave dead."""

from prometheus_client import CollectorRegistry

_PREFIXES = ("http_request", "http_response")


def forget_http_series(registry: CollectorRegistry) -> None:
    """Let the next making of the middleware count.

    prometheus-fastapi-instrumentator registers its series when its middleware is made, and counts
    nothing where they are registered already: by a stack that was built before, or another server.
    """
    named = dict(registry._collector_to_names)
    for collector, names in named.items():
        if any(name.startswith(_PREFIXES) for name in names):
            registry.unregister(collector)
