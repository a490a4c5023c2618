"""Health routes: `/healthz` for a live process, `/readyz` for one that can serve."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

Check = Callable[[], Awaitable[None]]


def create_health_router(checks: dict[str, Check]) -> APIRouter:
    """`checks` raise if their part is not ready; the response shows the exception's text."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"description": "Some part is not ready"}})
    async def readyz() -> JSONResponse:
        """Every part that a request needs is there."""
        parts = {name: await _state(check) for name, check in checks.items()}
        ready = all(state == "ok" for state in parts.values())
        content = {"status": "ready" if ready else "not_ready", "parts": parts}
        return JSONResponse(content, status_code=200 if ready else 503)

    return router


async def _state(check: Check) -> str:
    try:
        await check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"
