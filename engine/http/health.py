"""Health routes: `/healthz` for a live process, `/readyz` for one that can serve."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from registry.http.problems import ProblemRoute

Part = Literal["database", "engine", "store"]
Check = Callable[[], Awaitable[None]]


def create_health_router(checks: dict[Part, Check]) -> APIRouter:
    """`checks` raise if their part is not ready; the response shows the exception's text."""
    router = APIRouter(tags=["health"], route_class=ProblemRoute)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"description": "Some part is not ready"}})
    async def readyz(
        without: Annotated[
            tuple[Part, ...],
            Query(description="Parts that don't decide: without the store, memory still serves."),
        ] = (),
    ) -> JSONResponse:
        """Every part that a request needs is there."""
        parts = {name: await _state(check) for name, check in checks.items()}
        ready = all(state == "ok" for name, state in parts.items() if name not in without)
        content = {"status": "ready" if ready else "not_ready", "parts": parts}
        return JSONResponse(content, status_code=200 if ready else 503)

    return router


async def _state(check: Check) -> str:
    try:
        await check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"
