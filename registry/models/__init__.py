"""Database tables, one module for each subject. Importing this package registers all of them."""

from registry.models.adapter import SERVABLE, Adapter, FurtherNumber, Version, VersionState
from registry.models.adapter_order import AdapterOrder
from registry.models.alias import Alias, AliasHistory
from registry.models.api_key import ApiKey
from registry.models.base import MAX_BIG_ID, UtcDateTime, now, row_id
from registry.models.base_model import BaseLink, KnownBase, Server
from registry.models.cache_history import CacheHistory
from registry.models.event import Event, EventKind, new_uid
from registry.models.job import Job
from registry.models.prompt_set import PromptSet
from registry.models.rate import RateCount
from registry.models.registration import TenantRegistration
from registry.models.residency import Pin, Resident
from registry.models.search import AdapterTerm, VersionTerm
from registry.models.served_name import ServedName
from registry.models.tenant import AdapterGrant, Tenant
from registry.models.webhook import Webhook, WebhookDelivery

__all__ = [
    "MAX_BIG_ID",
    "SERVABLE",
    "Adapter",
    "AdapterGrant",
    "AdapterOrder",
    "AdapterTerm",
    "Alias",
    "AliasHistory",
    "ApiKey",
    "BaseLink",
    "CacheHistory",
    "Event",
    "EventKind",
    "FurtherNumber",
    "Job",
    "KnownBase",
    "Pin",
    "PromptSet",
    "RateCount",
    "Resident",
    "ServedName",
    "Server",
    "Tenant",
    "TenantRegistration",
    "UtcDateTime",
    "Version",
    "VersionState",
    "VersionTerm",
    "Webhook",
    "WebhookDelivery",
    "new_uid",
    "now",
    "row_id",
]
