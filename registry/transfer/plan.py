"""Import plan: what an import would change, decided per adapter without any I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from registry.models import SERVABLE
from registry.references import DEFAULT_ALIAS
from registry.transfer.format import (
    AdapterManifest,
    AliasManifest,
    AliasStateManifest,
    VersionManifest,
)
from registry.transfer.repository import LocalAdapter


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """`replace_aliases`: aliases that point elsewhere here are moved; else they stay.

    `skip_invalid`: versions that can't be served are skipped; else nothing is imported.
    """

    replace_aliases: bool = False
    skip_invalid: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class AdapterPlan:
    """Changes to one adapter. `copied` aliases keep their history, `moved` ones get a state."""

    manifest: AdapterManifest
    local: LocalAdapter | None
    added: dict[int, VersionManifest] = field(default_factory=dict)
    unchanged: list[int] = field(default_factory=list)
    copied: list[AliasManifest] = field(default_factory=list)
    moved: dict[str, Mapping[int, int]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether a new adapter has no version left to import; it is then not created."""
        return self.local is None and bool(self.manifest.versions) and not self.added

    @property
    def default(self) -> int | None:
        """The default version of a new adapter without aliases: its first servable one."""
        if self.local is not None or self.manifest.aliases:
            return None
        servable = [number for number, version in self.added.items() if version.state in SERVABLE]
        return min(servable, default=None)

    @property
    def changes_anything(self) -> bool:
        return self.local is None or bool(self.added or self.copied or self.moved)


def plan_adapter(
    manifest: AdapterManifest,
    local: LocalAdapter | None,
    *,
    replace_aliases: bool,
    skipped: Collection[str],
) -> AdapterPlan:
    """Plan one adapter. `skipped`: digests of skipped versions."""
    plan = AdapterPlan(manifest, local)
    _plan_versions(plan, skipped)
    _plan_aliases(plan, replace_aliases)
    return plan


def _plan_versions(plan: AdapterPlan, skipped: Collection[str]) -> None:
    name = plan.manifest.name
    here = plan.local.versions if plan.local else {}
    numbers = {digest: number for number, (_, digest) in here.items()}
    contents = plan.local.contents if plan.local else {}
    wanted = [v for v in plan.manifest.versions if v.digest not in skipped]
    free = max([0, *here, *(version.number or 0 for version in wanted)]) + 1
    for version in wanted:
        known = numbers.get(version.digest) or _same_content(version, contents)
        if version.number is None:
            if known is None:
                plan.added[free], free = version, free + 1
            else:
                plan.unchanged.append(known)
        elif known == version.number:
            plan.unchanged.append(known)
        elif known is not None:
            plan.conflicts.append(f"{name}:{version.number} is {name}:{known} here")
        elif version.number in here:
            plan.conflicts.append(f"{name}:{version.number} has other content here")
        else:
            plan.added[version.number] = version


def _same_content(version: VersionManifest, contents: Mapping[int, str]) -> int | None:
    """The number of the version here that was only written in another way.

    One of another number stays another version: a registry from before may have it twice.
    """
    same = {n for n, content in contents.items() if content == version.content_digest}
    if version.number is None:
        return min(same, default=None)
    return version.number if version.number in same else None


def _plan_aliases(plan: AdapterPlan, replace_aliases: bool) -> None:
    there = {*plan.added, *plan.unchanged}
    here = plan.local.aliases if plan.local else {}
    for alias in plan.manifest.aliases:
        whole = _drop_skipped(alias, there)
        if whole is None:
            plan.kept.append(alias.name)
        elif alias.name not in here:
            plan.copied.append(whole)
        elif whole.current is not None and dict(whole.current.weights) != here[alias.name]:
            if replace_aliases:
                plan.moved[alias.name] = whole.current.weights
            else:
                plan.kept.append(alias.name)


def _drop_skipped(alias: AliasManifest, numbers: Collection[int]) -> AliasManifest | None:
    """The alias without states of skipped versions; None if its current state is one."""
    states = tuple(state for state in alias.states if set(state.weights) <= set(numbers))
    if not states or (alias.current is not None and states[-1] is not alias.current):
        return None
    return AliasManifest(name=alias.name, states=states)


def first_default(number: int, at: datetime, actor: str) -> AliasManifest:
    state = AliasStateManifest(
        revision=1, weights={number: 1}, valid_from=at, actor=actor, reason="first version"
    )
    return AliasManifest(name=DEFAULT_ALIAS, states=(state,))
