"""Export format, as a folder or a tar: manifests as JSON, events, and the adapters' files.

adaptry-export.json                index of its manifests, events and files, with hashes
adapters/NAME.json                 an adapter with its versions and aliases
events.jsonl                       the adapters' events, one per line
files/DIGEST/adapter_config.json   a version's files, possibly shared
files/DIGEST/adapter_model.safetensors
files/DIGEST/beside/…              what an adapter of elsewhere was trained with: compared, not kept
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from registry.catalog.field_types import Metadata, Tags, Text, UtcTime
from registry.catalog.metadata import MAX_METADATA_BYTES
from registry.catalog.schemas import InspectionRead
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.inspection.training_files import FOLDER, MAX_TEMPLATE_LENGTH, served_defaults
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.models import SERVABLE, VersionState
from registry.references import ADAPTER_NAME_PATTERN, ALIAS_NAME_PATTERN, MAX_NAME, MAX_VERSION

INDEX = "adaptry-export.json"
EVENTS = "events.jsonl"

_NAME = ADAPTER_NAME_PATTERN
_HASH = r"[0-9a-f]{64}"
_FILES = "|".join(map(re.escape, (CONFIG_FILE, WEIGHTS_FILE)))
_BESIDE = "|".join(map(re.escape, TRAINING_FILES))
_PART = re.compile(
    rf"{re.escape(INDEX)}|{re.escape(EVENTS)}|adapters/{_NAME}\.json|files/{_HASH}/(?:{_FILES})"
    rf"|files/{_HASH}/{FOLDER}/(?:{_BESIDE})"
)


def is_part(name: str) -> bool:
    """Whether an export may hold a file of this name."""
    return _PART.fullmatch(name) is not None


def manifest_name(adapter: str) -> str:
    return f"adapters/{adapter}.json"


def file_name(digest: str, name: str) -> str:
    return f"files/{digest}/{name}"


def training_file_name(digest: str, name: str) -> str:
    return f"files/{digest}/{FOLDER}/{name}"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self, *, indent: int | None = 1) -> bytes:
        """The same content is the same bytes."""
        content = self.model_dump(mode="json")
        text = json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False)
        return f"{text}\n".encode()


Hash = Annotated[str, Field(pattern=f"^{_HASH}$")]
AdapterName = Annotated[str, Field(pattern=f"^{_NAME}$", max_length=MAX_NAME)]
AliasName = Annotated[str, Field(pattern=f"^{ALIAS_NAME_PATTERN}$")]
Number = Annotated[int, Field(ge=1, le=MAX_VERSION)]
Weight = Annotated[int, Field(ge=1, le=MAX_VERSION)]
Line = Annotated[Text, Field(max_length=256)]
Reason = Annotated[Text, Field(max_length=1024)]
Paragraph = Annotated[Text, Field(max_length=4096)]


def _not_pending(state: VersionState) -> VersionState:
    if state is VersionState.PENDING:
        raise ValueError("a pending version can't be imported")
    return state


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"more than {MAX_METADATA_BYTES} bytes of metadata")
    return metadata


SmallMetadata = Annotated[Metadata, AfterValidator(_small)]


class BaseManifest(_Part):
    """The base model that a version is bound to."""

    name: Annotated[Text, Field(min_length=1, max_length=256)]
    digest: Hash


class VersionManifest(_Part):
    """One version. `number` None: the next one; what inspection finds may be omitted.

    `further_numbers` mean it as well.
    """

    number: Number | None = None
    further_numbers: Annotated[tuple[Number, ...], Field(max_length=10_000)] = ()
    digest: Hash
    content_digest: Hash | None = None
    state: Annotated[VersionState, AfterValidator(_not_pending)] = VersionState.READY
    state_reason: Reason | None = None
    state_code: Annotated[Text | None, Field(max_length=64)] = None
    state_changed_at: UtcTime | None = None
    rank: Annotated[int | None, Field(ge=1, le=MAX_VERSION)] = None
    alpha: Annotated[float | None, Field(gt=0, lt=1e9)] = None
    target_modules: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()
    dtype: Annotated[Text | None, Field(max_length=16)] = None
    base_model: Reason | None = None
    base: BaseManifest | None = None  # null: what it is inspected against when it is imported
    size_bytes: Annotated[int | None, Field(ge=0, lt=2**62)] = None
    peft_config: Metadata | None = None  # only of versions without files
    inspection: InspectionRead | None = None  # the same
    chat_template: Annotated[Text | None, Field(max_length=MAX_TEMPLATE_LENGTH)] = None
    sampling_defaults: Annotated[SmallMetadata, AfterValidator(served_defaults)] | None = None
    source: Annotated[Text, Field(min_length=1, max_length=4096)]
    revision: Line | None = None
    created_at: UtcTime
    created_by: Line
    description: Paragraph | None = None
    tags: Tags = ()
    metadata: SmallMetadata = {}
    parent: Annotated[str | None, Field(pattern=rf"^{_NAME}:[1-9][0-9]{{0,9}}$")] = None
    training_run: Reason | None = None
    dataset: Reason | None = None
    updated_at: UtcTime | None = None

    @property
    def needs_files(self) -> bool:
        """Without files it could not be served, or described."""
        described = (self.rank, self.alpha, self.dtype, self.size_bytes, self.peft_config)
        return self.state in SERVABLE or None in described


class AliasStateManifest(_Part):
    """A state of an alias; `weights` by version number."""

    revision: Number
    weights: Annotated[Mapping[Number, Weight], Field(min_length=1, max_length=1000)]
    valid_from: UtcTime
    valid_to: UtcTime | None = None
    actor: Line
    reason: Reason | None = None

    @model_validator(mode="after")
    def ends_after_it_began(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to is not after valid_from")
        return self


class AliasManifest(_Part):
    """All states of an alias, oldest first. If the last one has no end, it is current."""

    name: AliasName
    states: Annotated[tuple[AliasStateManifest, ...], Field(min_length=1)]

    @property
    def current(self) -> AliasStateManifest | None:
        """None: the alias was deleted."""
        return self.states[-1] if self.states[-1].valid_to is None else None

    @model_validator(mode="after")
    def is_one_line_of_states(self) -> Self:
        for before, after in zip(self.states, self.states[1:], strict=False):
            if before.valid_to is None or before.valid_to > after.valid_from:
                raise ValueError(f"the states of {self.name} overlap")
            if before.revision >= after.revision:
                raise ValueError(f"the revisions of {self.name} do not rise")
        return self


class NameManifest(_Part):
    """A served name; with neither alias nor version it means what the adapter's name does."""

    name: Line
    alias: AliasName | None = None
    version: Number | None = None


class AdapterManifest(_Part):
    """An adapter with its versions and aliases."""

    name: AdapterName
    description: Paragraph | None = None
    owner: Line | None = None
    tags: Tags = ()
    metadata: SmallMetadata = {}
    serve_chat_template: bool = False
    serve_sampling_defaults: bool = False
    created_at: UtcTime
    updated_at: UtcTime | None = None
    versions: tuple[VersionManifest, ...]
    aliases: tuple[AliasManifest, ...] = ()
    names: tuple[NameManifest, ...] = ()

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        numbers = [v.number for v in self.versions if v.number is not None]
        further = [number for v in self.versions for number in v.further_numbers]
        digests = {v.digest for v in self.versions}
        numbered = [*numbers, *further]
        if len(set(numbered)) < len(numbered) or len(digests) < len(self.versions):
            raise ValueError(f"{self.name} has a version twice")
        if len({alias.name for alias in self.aliases}) < len(self.aliases):
            raise ValueError(f"{self.name} has an alias twice")
        for alias in self.aliases:
            for state in alias.states:
                if unknown := set(state.weights) - set(numbers):
                    raise ValueError(f"{self.name}@{alias.name}: no version {min(unknown)}")
        return self


class EventRecord(_Part):
    """An event as originally recorded."""

    uid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    at: UtcTime
    actor: Line
    kind: Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=32)]
    adapter: AdapterName
    alias: AliasName | None = None
    from_version: Number | None = None
    to_version: Number | None = None
    reason: Reason | None = None
    data: Metadata = {}


class Index(_Part):
    """Index of an export. Hashes are blake3 of the file's bytes."""

    format: Literal["adaptry-export"] = "adaptry-export"
    version: Literal[1] = 1
    base_model: Text | None = None
    adapters: dict[AdapterName, Hash]
    events: Hash | None = None
    files: tuple[Hash, ...]
