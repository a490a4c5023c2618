"""Stored responses of a fleet: which replica has the one that a request of `/v1/responses` names.

Each replica has a store of its own. All are asked, so that nothing has to be remembered here, and
an ingress that was started again knows as much.
"""

from starlette.types import Scope

from engine.gateway.request_body import RequestBody
from fleet.ports import Replicas
from registry.auth.caller import current_caller
from registry.http.problems import route_path

_PATH = "/v1/responses"


async def replica_with_response(replicas: Replicas, scope: Scope, body: RequestBody) -> str | None:
    """The only replica that can answer the request; None: any can, if only that it is unknown.

    Raises EngineUnavailable if it can't be known.
    """
    if (response_id := _named_response(scope, body)) is None:
        return None
    tenant = current_caller().tenant
    answers = await replicas.call("holds_response", tenant, response_id)
    for name, holds in answers.values.items():
        if holds:
            return name
    answers.all_that_live()
    return None


def is_in_background(scope: Scope, body: RequestBody) -> bool:
    """Whether the work on it may go on behind its answer, and without its client."""
    return _creates(scope) and bool(body.members.get("background"))


def names_stored_response(scope: Scope) -> bool:
    """Whether it reads or cancels one."""
    return route_path(scope).startswith(f"{_PATH}/")


def _named_response(scope: Scope, body: RequestBody) -> str | None:
    if _creates(scope):
        named = body.members.get("previous_response_id")
        return named if isinstance(named, str) and named else None
    if not names_stored_response(scope):
        return None
    return route_path(scope).removeprefix(f"{_PATH}/").removesuffix("/cancel") or None


def _creates(scope: Scope) -> bool:
    return bool(scope["method"] == "POST" and route_path(scope) == _PATH)
