"""Fan-out event: what a stream of several models says of one of them."""

from typing import Any

from adaptry.client.models.response import ResponseModel


class FanoutEvent(ResponseModel):
    """Of one model by its `name`: first its `status` and `version`, then each `chunk` as its own
    route streams it, or an `error`, which ends its part.
    """

    name: str
    status: int | None = None
    version: str | None = None
    invocation: str | None = None
    chunk: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
