"""Probe route: runs a probe of a version, beside the registry's routes."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from engine.api.cache import ERRORS, EngineProblemRoute
from engine.operations.probe import ProbeRunner
from engine.ports import Resolver
from registry.auth.caller import current_caller
from registry.references import check_name


class ProbeRead(BaseModel):
    """`difference` is null if the engine computed no finite numbers; `code` is the failure."""

    reference: str
    passed: bool
    code: str | None
    difference: float | None
    noise: float


def create_probe_router(probe: ProbeRunner, resolver: Resolver) -> APIRouter:
    """One route beside the registry's."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["registry"],
        route_class=EngineProblemRoute,
        responses={code: {} for code in ERRORS},
    )

    @router.post("/adapters/{name}/versions/{number}/probe")
    async def run(name: str, number: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> ProbeRead:
        """Load the version and compare its log probabilities with the base model's.

        It fails if that changes nothing, or the engine computes no finite numbers. The version
        stays as it is: the engine may be to blame.
        """
        current_caller().check_owns(check_name(name))
        result = await probe.run(await resolver.resolve(f"{name}:{number}"))
        return ProbeRead(
            reference=result.reference,
            passed=result.failure is None,
            code=result.failure,
            difference=result.difference,
            noise=result.noise,
        )

    return router
