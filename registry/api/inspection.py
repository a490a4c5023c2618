"""Routes of inspection: the verdict on an adapter, versions checked again, base models."""

from fastapi import APIRouter

from registry.api.parameters import Number
from registry.api.serializers import version_read
from registry.auth.caller import actor_name, current_caller
from registry.bases.service import BaseState
from registry.catalog.schemas import (
    AdapterFacts,
    BaseList,
    BaseRead,
    InspectionBody,
    InspectionRead,
    LinkBody,
    ProblemRead,
    RecheckBody,
    VerdictRead,
    VersionRead,
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
    report = InspectionRead.model_validate(inspection.report)
    return AdapterFacts(
        kind=report.kind,
        rank=inspection.rank,
        alpha=inspection.alpha,
        target_modules=list(inspection.target_modules),
        dtype=inspection.dtype,
        base_model=inspection.base_model,
        size_bytes=inspection.size_bytes,
        inspection=report,
    )


def add_base_routes(router: APIRouter, service: RegistryService) -> None:
    bases = service.bases

    @router.get("/bases")
    async def list_bases() -> BaseList:
        """Every base model that a server on this database has served."""
        return await _all()

    @router.post("/bases/link")
    async def link(body: LinkBody) -> BaseList:
        """Declare two base models compatible: servers of each serve the versions of the other."""
        await bases.link(body.base, body.other, actor=actor_name(), reason=body.reason)
        return await _all()

    @router.post("/bases/unlink")
    async def unlink(body: LinkBody) -> BaseList:
        """Withdraw that two base models are compatible."""
        await bases.unlink(body.base, body.other, actor=actor_name(), reason=body.reason)
        return await _all()

    @router.post("/adapters/{name}/versions/{number}/recheck")
    async def recheck(name: str, number: Number, body: RecheckBody | None = None) -> VersionRead:
        """Inspect a version again; if it fits, bind it to the base model that this server serves.

        What is bound to another one is taken from it only if `from_base` names that.
        """
        body = body or RecheckBody()
        checked = await service.recheck.recheck(
            name, number, actor=actor_name(), from_base=body.from_base
        )
        return version_read(checked)

    async def _all() -> BaseList:
        return BaseList(items=[_base_read(state) for state in await bases.all()])


def _base_read(state: BaseState) -> BaseRead:
    return BaseRead(
        name=state.name,
        digest=state.digest,
        facts=dict(state.facts),
        created_at=state.created_at,
        versions=state.versions,
        links=list(state.links),
        is_this=state.is_this,
    )
