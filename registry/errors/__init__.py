"""Errors of the registry, each with its HTTP status and a code that never changes.

RegistryError
├── InvalidReference     400  not `name`, `name@alias` or `name:3`
├── InvalidPageToken     400
├── InvalidEventId       400
├── ValueRefused         422  the database can't hold it
├── UnknownAdapter       404
├── UnknownModel         404  on vLLM's routes: no adapter, alias, version or served name
├── InvalidServedName    400  not printable, too long, or of a form that only references have
├── UnknownServedName    404  the adapter has none of that name
├── UnknownVersion       404
├── UnknownAlias         404
├── UnknownRevision      404  of an alias
├── UnknownWebhook       404
├── UnknownDelivery      404
├── UnknownBase          404
├── UnknownPromptSet     404
├── PromptSetExists      409
├── TooManyPromptSets    409
├── TooManyWebhooks      409
├── AmbiguousBase        400  several base models are called so
├── SameBase             400  where two base models are needed
├── UnknownServer        404  none of that name has started on this database
├── KeyRequired          401  none was sent
├── InvalidKey           401  unknown, expired or revoked
├── CrossOrigin          403  another site's page sent it
├── ScopeMissing         403  the key is good, but not for this
├── NotOwner             403  the adapter is granted to the caller's tenant, not its own
├── PlatformOnly         403  no key of a tenant may do it
├── UnknownTenant        404
├── TenantExists         409
├── TenantNotEmpty       409  it has adapters or valid keys
├── TenantLimit          409; 429 where waiting helps: a limit of the tenant
├── RateLimitExceeded    429  what a key, tenant or address may use in a minute is used up
├── UnknownKey           404
├── KeyExists            409
├── TooManyKeys          409  valid ones of one tenant
├── KeyRevoked           409
├── LastAdminKey         409  no other could be created
├── VersionUnavailable   410 retired, purged; 409 quarantined, rejected, pending
├── VersionNotServable   409  no alias may point at it in its state
├── TransitionRefused    409  not from the state it is in
├── VersionAliased       409  aliases point at it
├── VersionInUse         409  requests use it in the engine
├── FilesMissing         409  they are not in the store
├── FilesDamaged         409  they differ from what was registered
├── ServerRunning        409  it can't be forgotten
├── OtherBaseModel       409  the version belongs to another base model than this server's
├── AliasMoved           409  it was moved meanwhile (compare-and-set)
├── NothingToRollBack    409
├── LineageCycle         409
├── MetadataTooLarge     413
├── NameReserved         409  the base model's name
├── InvalidSource        400  neither a path nor a supported URL
├── SourceNotAllowed     403  outside the configured roots, URLs and networks
├── SourceDenied         403  the source requires credentials, or other ones
├── SourceNotFound       404
├── SourceTooLarge       413  too many bytes or too many files
├── AddressNotAllowed    403  a private, local or otherwise special address
├── HostUnknown          422  the name has no address
├── InvalidUrl           422
├── SourceUnsupported    501  a package that it needs is not installed
├── InvalidRedirect      502  the source leads to no place that can be read
├── SourceUnavailable    502  the source does not respond properly; retried
├── SourceTimeout        504
├── BodyTooLarge         413
├── BodyTimeout          408  it arrives too slowly
├── BodyTooDeep          400  JSON nested too deeply
├── BodyTooManyValues    413  more values in its JSON than a request can need
├── BodyNotText          400
├── BodyMemoryFull       503  of all bodies at work together
├── InvalidUpload        400  the request's body is not as declared
├── TooManyUploads       429
├── TooManyJobs          429
├── TooManyInspections   429
├── InvalidArchive       422  what is wrong with an export; the code says what
├── NameTaken            409  an adapter, or a served name of another one, is called so
├── TooManyNames         409  served names of one adapter
├── TooManyAliases       409  of one adapter
├── ImportConflict       409  the registry has something else there
├── InvalidAdapter       422  what inspection found; the code says what
├── UnknownJob           404
├── JobFinished          409  too late to cancel it
├── TooManyStreams       503
├── EngineAway           503  it does not respond, or there is none
├── WarmingFailed        503; 422 where it will never work
├── ProbeFailed          422  the engine's output for the version; the code says what
├── PromotionTimeout     504
├── StoreUnavailable     503  disk errors
├── DatabaseUnavailable  503
└── InternalError        500  unexpected; the server's log has it under the id in the answer
"""

from registry.errors.access import (
    CrossOrigin,
    InvalidKey,
    KeyExists,
    KeyRequired,
    KeyRevoked,
    LastAdminKey,
    NotOwner,
    PlatformOnly,
    RateLimitExceeded,
    ScopeMissing,
    TenantExists,
    TenantLimit,
    TenantNotEmpty,
    TooManyKeys,
    UnknownKey,
    UnknownTenant,
)
from registry.errors.availability import (
    DatabaseUnavailable,
    EngineAway,
    InternalError,
    ProbeFailed,
    PromotionTimeout,
    StoreUnavailable,
    TooManyStreams,
    WarmingFailed,
)
from registry.errors.base import RegistryError
from registry.errors.conflicts import (
    AliasMoved,
    FilesDamaged,
    FilesMissing,
    ImportConflict,
    JobFinished,
    LineageCycle,
    MetadataTooLarge,
    NameReserved,
    NameTaken,
    NothingToRollBack,
    OtherBaseModel,
    PromptSetExists,
    ServerRunning,
    TooManyAliases,
    TooManyNames,
    TooManyPromptSets,
    TooManyWebhooks,
    TransitionRefused,
    VersionAliased,
    VersionInUse,
    VersionNotServable,
)
from registry.errors.requests import (
    AmbiguousBase,
    InvalidEventId,
    InvalidPageToken,
    InvalidReference,
    InvalidServedName,
    SameBase,
    UnknownAdapter,
    UnknownAlias,
    UnknownBase,
    UnknownDelivery,
    UnknownJob,
    UnknownModel,
    UnknownPromptSet,
    UnknownRevision,
    UnknownServedName,
    UnknownServer,
    UnknownVersion,
    UnknownWebhook,
    ValueRefused,
    VersionUnavailable,
)
from registry.errors.sources import (
    AddressNotAllowed,
    HostUnknown,
    InvalidRedirect,
    InvalidSource,
    InvalidUrl,
    SourceDenied,
    SourceNotAllowed,
    SourceNotFound,
    SourceTimeout,
    SourceTooLarge,
    SourceUnavailable,
    SourceUnsupported,
)
from registry.errors.uploads import (
    BodyMemoryFull,
    BodyNotText,
    BodyTimeout,
    BodyTooDeep,
    BodyTooLarge,
    BodyTooManyValues,
    InvalidAdapter,
    InvalidArchive,
    InvalidUpload,
    TooManyInspections,
    TooManyJobs,
    TooManyUploads,
)

__all__ = [
    "AddressNotAllowed",
    "AliasMoved",
    "AmbiguousBase",
    "BodyMemoryFull",
    "BodyNotText",
    "BodyTimeout",
    "BodyTooDeep",
    "BodyTooLarge",
    "BodyTooManyValues",
    "CrossOrigin",
    "DatabaseUnavailable",
    "EngineAway",
    "FilesDamaged",
    "FilesMissing",
    "HostUnknown",
    "ImportConflict",
    "InternalError",
    "InvalidAdapter",
    "InvalidArchive",
    "InvalidEventId",
    "InvalidKey",
    "InvalidPageToken",
    "InvalidRedirect",
    "InvalidReference",
    "InvalidServedName",
    "InvalidSource",
    "InvalidUpload",
    "InvalidUrl",
    "JobFinished",
    "KeyExists",
    "KeyRequired",
    "KeyRevoked",
    "LastAdminKey",
    "LineageCycle",
    "MetadataTooLarge",
    "NameReserved",
    "NameTaken",
    "NotOwner",
    "NothingToRollBack",
    "OtherBaseModel",
    "PlatformOnly",
    "ProbeFailed",
    "PromotionTimeout",
    "PromptSetExists",
    "RateLimitExceeded",
    "RegistryError",
    "SameBase",
    "ScopeMissing",
    "ServerRunning",
    "SourceDenied",
    "SourceNotAllowed",
    "SourceNotFound",
    "SourceTimeout",
    "SourceTooLarge",
    "SourceUnavailable",
    "SourceUnsupported",
    "StoreUnavailable",
    "TenantExists",
    "TenantLimit",
    "TenantNotEmpty",
    "TooManyAliases",
    "TooManyInspections",
    "TooManyJobs",
    "TooManyKeys",
    "TooManyNames",
    "TooManyPromptSets",
    "TooManyStreams",
    "TooManyUploads",
    "TooManyWebhooks",
    "TransitionRefused",
    "UnknownAdapter",
    "UnknownAlias",
    "UnknownBase",
    "UnknownDelivery",
    "UnknownJob",
    "UnknownKey",
    "UnknownModel",
    "UnknownPromptSet",
    "UnknownRevision",
    "UnknownServedName",
    "UnknownServer",
    "UnknownTenant",
    "UnknownVersion",
    "UnknownWebhook",
    "ValueRefused",
    "VersionAliased",
    "VersionInUse",
    "VersionNotServable",
    "VersionUnavailable",
    "WarmingFailed",
]
