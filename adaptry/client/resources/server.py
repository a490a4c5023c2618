"""`client.server`: what the server runs with, and the state of its database and store."""

from typing import TypeVar

from adaptry.client.models import ServerSettingsRead
from adaptry.client.transport.operations import Resource, operation
from adaptry.client.transport.requests import Parameters

T_co = TypeVar("T_co", covariant=True)


class ServerState(Resource[T_co]):
    """Needs the scope `admin`, and a key of the platform."""

    @operation("GET", "/api/v1/settings", ServerSettingsRead)
    def settings(self) -> Parameters:
        """Settings in effect without their secrets, and the state of database and store."""
        return Parameters()
