"""No tenant finds another's prompts in the prefix cache, not even by how fast an answer begins."""

from registry.auth.caller import current_caller


def cache_salt(asked: str | None) -> str | None:
    """With which the running request's blocks are found again.

    A tenant's own, whatever salt the client asked for: that only divides it further. No name of a
    tenant has a tilde in it, so no two tenants can make the same one.
    """
    tenant = current_caller().tenant
    return asked if tenant is None else f"{tenant}~{asked or ''}"
