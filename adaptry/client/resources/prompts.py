"""`client.prompts`: sets of prompts that versions are compared with."""

from collections.abc import Sequence
from typing import TypeVar

from adaptry.client.models import PromptSetRead, PromptSetSummary
from adaptry.client.transport.operations import Resource, operation, pages
from adaptry.client.transport.requests import Parameters

T_co = TypeVar("T_co", covariant=True)


class Prompts(Resource[T_co]):
    """List, read, save, rename and delete sets of prompts. Each tenant has its own."""

    @pages("/api/v1/prompts", PromptSetSummary)
    def list(self) -> Parameters:
        """The sets by name, without their prompts."""
        return Parameters()

    @operation("GET", "/api/v1/prompts/{name}", PromptSetRead)
    def get(self, name: str) -> Parameters:
        """One set with its prompts. Raises NotFound."""
        return Parameters({"name": name})

    @operation("PUT", "/api/v1/prompts/{name}", PromptSetRead)
    def save(self, name: str, prompts: Sequence[str]) -> Parameters:
        """Create a set, or replace its prompts. Raises Conflict if there are too many sets."""
        return Parameters({"name": name}, body={"prompts": [*prompts]})

    @operation("PATCH", "/api/v1/prompts/{name}", PromptSetRead)
    def rename(self, name: str, new_name: str) -> Parameters:
        """Give a set another name. Raises NotFound, Conflict if that is taken."""
        return Parameters({"name": name}, body={"name": new_name})

    @operation("DELETE", "/api/v1/prompts/{name}", type(None))
    def delete(self, name: str) -> Parameters:
        """Delete a set. Raises NotFound."""
        return Parameters({"name": name})
