"""`client.names`: served names of an adapter, which clients may write as `model`."""

from typing import TypeVar

from adaptry.client.models import NameRead
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import Parameters, without_none

T_co = TypeVar("T_co", covariant=True)


class Names(Resource[T_co]):
    """List, set and remove served names: any printable text, such as `Org/Adapter-7B`."""

    @pages("/api/v1/adapters/{name}/names", NameRead)
    def list(self, name: str) -> Parameters:
        """The served names of an adapter."""
        return Parameters({"name": name})

    @operation("PUT", "/api/v1/adapters/{name}/names", NameRead)
    def set(
        self, name: str, served_name: str, *, alias: str | None = None, version: int | None = None
    ) -> Parameters:
        """Let a served name mean the adapter, or one alias or version of it.

        Raises Conflict if another adapter of the owner has it.
        """
        body = without_none(name=served_name, alias=alias, version=version)
        return Parameters({"name": name}, body=body)

    @operation("DELETE", "/api/v1/adapters/{name}/names", type(None))
    def remove(self, name: str, served_name: str) -> Parameters:
        """Remove a served name."""
        return Parameters({"name": name}, {"served_name": served_name})
