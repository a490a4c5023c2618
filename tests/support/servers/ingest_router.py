"""The routes that register, for tests of other things."""

from fastapi import APIRouter

from registry.api.ingest import create_ingest_router
from registry.ingest.service import IngestService
from registry.service import RegistryService
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.support.read_settings import read_settings


def ingest_of(service: RegistryService) -> IngestService:
    """For small folders of this machine, which are registered within the request."""
    sources = RemoteSources((), EgressGuard())
    return IngestService(
        service.registrar, service._database, service.store, sources, read_settings()
    )


def ingest_router(service: RegistryService) -> APIRouter:
    return create_ingest_router(ingest_of(service))
