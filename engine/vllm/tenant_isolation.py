"""Tenant isolation in vLLM: a tenant's own cache salt and request ids.

Salt: no tenant finds another's prompts in the prefix cache, not even by how fast an answer starts.
Ids: no tenant can name another's request. vLLM aborts every request that has the id of one whose
client disconnects.

A tenant's name never contains a tilde, so two tenants never get the same salt or id.
"""

from registry.auth.caller import current_caller


def tenant_cache_salt(requested: str | None) -> str | None:
    """The salt of the running request's blocks. A client's own salt only divides it further."""
    tenant = current_caller().tenant
    return requested if tenant is None else f"{tenant}~{requested or ''}"


def tenant_request_id(requested: str) -> str:
    """The engine's id for a request whose client chose `requested`, in `X-Request-Id`."""
    tenant = current_caller().tenant
    return requested if tenant is None else f"{tenant}~{requested}"
