"""`client.bases`: the base models of a registry, and which of them are compatible."""

from typing import TypeVar

from adaptry.client.models import BaseList
from adaptry.client.transport.operations import Resource, operation
from adaptry.client.transport.requests import Parameters, without_none

T_co = TypeVar("T_co", covariant=True)


class Bases(Resource[T_co]):
    """A base model is named by its name, without the revision if that is unambiguous."""

    @operation("GET", "/api/v1/bases", BaseList)
    def list(self) -> Parameters:
        """Every base model that a server on this database has served."""
        return Parameters()

    @operation("POST", "/api/v1/bases/link", BaseList)
    def link(self, base: str, other: str, *, reason: str | None = None) -> Parameters:
        """Declare two compatible: servers of each serve the versions of the other."""
        return Parameters(body=without_none(base=base, other=other, reason=reason))

    @operation("POST", "/api/v1/bases/unlink", BaseList)
    def unlink(self, base: str, other: str, *, reason: str | None = None) -> Parameters:
        """Withdraw that two base models are compatible."""
        return Parameters(body=without_none(base=base, other=other, reason=reason))
