"""No tenant can name a request of another: vLLM ends all that have the id of one that is left."""

from registry.auth.caller import current_caller


def engine_request_id(asked: str) -> str:
    """What the engine is to call a request whose client chose `asked`, in `X-Request-Id`."""
    tenant = current_caller().tenant
    return asked if tenant is None else f"{tenant}~{asked}"
