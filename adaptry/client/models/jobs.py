"""Models of the responses of the routes of jobs.

Written by `make reference` from docs/openapi.json.
"""

from typing import Literal

from typing_extensions import TypeAliasType

from adaptry.client.models.response import ResponseModel
from adaptry.client.models.shared import JobRead


class JobPage(ResponseModel):
    items: list[JobRead]
    next_page_token: str | None


JobState = TypeAliasType(
    "JobState", Literal["receiving", "queued", "running", "succeeded", "failed", "cancelled"]
)


class JobsCancelled(ResponseModel):
    """How many jobs were told to stop. `more`: there may be others that match."""

    cancelled: int
    more: bool
