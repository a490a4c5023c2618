"""Route `POST /api/v1/inspect`: the verdict on an adapter without registering it."""

from fastapi import APIRouter

from registry.auth.caller import current_caller
from registry.catalog.schemas import (
    AdapterFacts,
    InspectionBody,
    InspectionRead,
    ProblemRead,
    VerdictRead,
)
from registry.inspection.inspector import Inspection, Verdict
from registry.service import RegistryService


def add_inspection(router: APIRouter, service: RegistryService) -> None:
    @router.post("/inspect")
    async def inspect(body: InspectionBody) -> VerdictRead:
        """Report whether these files would be accepted, with all their defects.

        Answers 200 for both verdicts; nothing is registered or stored.
        """
        return _verdict_read(
            await service.registrar.judge(body.source, within=current_caller().tenant)
        )


def _verdict_read(verdict: Verdict) -> VerdictRead:
    return VerdictRead(
        accepted=verdict.inspection is not None,
        problems=[
            ProblemRead(code=found.code, detail=found.detail, count=verdict.counts[found.code])
            for found in verdict.problems
        ],
        adapter=None if verdict.inspection is None else _facts(verdict.inspection),
    )


def _facts(inspection: Inspection) -> AdapterFacts:
    return AdapterFacts(
        rank=inspection.rank,
        alpha=inspection.alpha,
        target_modules=list(inspection.target_modules),
        dtype=inspection.dtype,
        base_model=inspection.base_model,
        size_bytes=inspection.size_bytes,
        inspection=InspectionRead.model_validate(inspection.report),
    )
