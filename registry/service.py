"""RegistryService: the services of the registry, composed over one database and store."""

from registry.aliases.history import AliasCatalog
from registry.aliases.promotion import PromotionService, ServingEngine
from registry.aliases.service import AliasService
from registry.bases.service import BaseService
from registry.catalog.catalog import Catalog
from registry.catalog.metadata import MetadataService
from registry.catalog.overview import OverviewCatalog
from registry.catalog.repository import RegistryRepository
from registry.database.engine import Database
from registry.ingest.registrar import Registrar
from registry.inspection.base_model import BaseModel
from registry.lifecycle.condemnation import Condemnation
from registry.lifecycle.garbage_collector import GarbageCollector
from registry.lifecycle.recheck import RecheckService
from registry.lifecycle.removal import FileRemoval
from registry.lifecycle.service import LifecycleService, UsageCheck
from registry.models import SERVABLE
from registry.names.service import NameService
from registry.quotas.service import TenantQuotas
from registry.settings import MAX_ALIASES
from registry.storage.readiness import StoreReadiness
from registry.storage.store import ArtifactStore
from registry.transfer.exporter import Exporter
from registry.transfer.importer import Importer
from registry.transfer.version_archive import VersionFiles


class RegistryService:
    """The services for one base model.

    `catalog`, `overview` and `alias_catalog` are read-only; `registrar` publishes versions;
    `aliases`, `names`, `promotion`, `lifecycle`, `metadata`, `bases`, `recheck` and `garbage`
    change the registry; `exporter` and `importer` copy it, `files` serves one version's files.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        base_model: BaseModel,
        *,
        max_rank: int,
        reserved_names: frozenset[str] = frozenset(),
        max_import_bytes: int = 2**40,
        max_aliases: int = MAX_ALIASES,
        quotas: TenantQuotas | None = None,
    ) -> None:
        self.registrar = Registrar(
            database,
            store,
            base_model,
            quotas or TenantQuotas(database),
            max_rank=max_rank,
            reserved_names=reserved_names,
        )
        removal = FileRemoval(database, store)
        self.bases = BaseService(database, base_model.identity)
        self.catalog = Catalog(database, store.path_of, base=base_model.identity)
        self.recheck = RecheckService(database, store.path_of, base_model, self.registrar.inspect)
        self.overview = OverviewCatalog(database)
        self.alias_catalog = AliasCatalog(database)
        self.aliases = AliasService(database, max_aliases=max_aliases)
        self.names = NameService(database, base_model.identity, reserved_names=reserved_names)
        self.promotion = PromotionService(self.catalog, self.alias_catalog, self.aliases)
        self.lifecycle = LifecycleService(database, removal, store.path_of)
        self.condemnation = Condemnation(self.lifecycle, store.path_of)
        self.metadata = MetadataService(database)
        self.garbage = GarbageCollector(database, store, removal, self.lifecycle)
        self.files = VersionFiles(self.catalog, store.path_of)
        self.exporter = Exporter(database, store, base_model.name)
        self.importer = Importer(
            database,
            store,
            removal,
            self.registrar.inspect,
            base_model.identity,
            reserved_names=reserved_names,
            max_bytes=max_import_bytes,
            max_aliases=max_aliases,
        )
        self._store_readiness = StoreReadiness(store.adapters, self._has_servable)
        self.store = store
        self.base_model = base_model
        self._database = database

    async def _has_servable(self) -> bool:
        """Whether there is any version to serve."""
        async with self._database.read_session() as session:
            return await RegistryRepository(session).has_version(SERVABLE)

    async def ping(self) -> None:
        """Raises DatabaseUnavailable."""
        await self._database.ping()

    async def check_store(self) -> None:
        """Raises StoreUnavailable."""
        await self._store_readiness.check()

    async def recover(self) -> None:
        """Bind what an earlier release left unbound. To be called at startup."""
        await self.bases.open()
        await self.recheck.bind_unbound()

    def set_usage_check(self, is_in_use: UsageCheck) -> None:
        """Set the check (row id → in use) that protects versions in use from being purged."""
        self.lifecycle.is_in_use = is_in_use

    def set_serving_engine(self, engine: ServingEngine) -> None:
        """Set the engine that promotions warm before they switch."""
        self.promotion.engine = engine
