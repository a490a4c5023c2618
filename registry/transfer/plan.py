"""Import plan: what an import would change, decided per adapter without any I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from registry.errors import TooManyAliases, VersionNotServable
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
    """Changes to one adapter. `copied` aliases keep their history, `moved` ones get a state.

    `further`: the number here of the version that each new further number means. `renumbered`: the
    numbers here of versions whose own number there is a further one here.
    """

    manifest: AdapterManifest
    local: LocalAdapter | None
    added: dict[int, VersionManifest] = field(default_factory=dict)
    unchanged: list[int] = field(default_factory=list)
    further: dict[int, int] = field(default_factory=dict)
    renumbered: dict[int, int] = field(default_factory=dict)
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
        return self.local is None or bool(self.added or self.further or self.copied or self.moved)

    def check_number_of_aliases(self, most: int) -> None:
        """One that has more here already may keep them. Raises TooManyAliases."""
        aliases = {} if self.local is None else self.local.aliases
        here = {name for name, weights in aliases.items() if weights}
        copied = {alias.name for alias in self.copied if alias.current is not None}
        if len(here | copied | self.moved.keys()) > max(most, len(here)):
            raise TooManyAliases(self.manifest.name, most)

    def check_moves(self) -> None:
        """What moving the aliases would raise, for a dry run. Raises VersionNotServable."""
        states = {} if self.local is None else dict(self.local.states)
        states |= {number: version.state for number, version in self.added.items()}
        for weights in self.moved.values():
            for number in sorted(weights):
                if states[number] not in SERVABLE:
                    raise VersionNotServable(f"{self.manifest.name}:{number}", states[number])


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
    here, further = (plan.local.versions, plan.local.further) if plan.local else ({}, {})
    numbers = {digest: number for number, (_, digest) in here.items()}
    wanted = [v for v in plan.manifest.versions if v.digest not in skipped]
    asked = (number for v in wanted for number in (v.number or 0, *v.further_numbers))
    free = max([0, *here, *further, *asked]) + 1
    placed: list[tuple[VersionManifest, int]] = []
    for version in wanted:
        known = numbers.get(version.digest) or _same_content(version, plan.local)
        if known is not None and version.number is not None and version.number != known:
            if further.get(version.number) != known:
                _add_conflict(plan, version.number, f"is {plan.manifest.name}:{known} here")
                continue
            plan.renumbered[version.number] = known
        if known is not None:
            plan.unchanged.append(known)
            placed.append((version, known))
        elif version.number is None:
            plan.added[free] = version
            placed.append((version, free))
            free += 1
        elif version.number in here or version.number in further:
            _add_conflict(plan, version.number, "has other content here")
        else:
            plan.added[version.number] = version
            placed.append((version, version.number))
    for version, number in placed:
        _plan_further_numbers(plan, version, number)


def _plan_further_numbers(plan: AdapterPlan, version: VersionManifest, own: int) -> None:
    """`own`: the version's number here."""
    here, further = (plan.local.versions, plan.local.further) if plan.local else ({}, {})
    for number in version.further_numbers:
        if number == own or further.get(number) == own:
            continue
        if number in here or number in further or number in plan.added:
            _add_conflict(plan, number, "has other content here")
        else:
            plan.further[number] = own


def _add_conflict(plan: AdapterPlan, number: int, why: str) -> None:
    plan.conflicts.append(f"{plan.manifest.name}:{number} {why}")


def _same_content(version: VersionManifest, local: LocalAdapter | None) -> int | None:
    """The number of the version here that was only written in another way.

    One of another number stays another version: a registry from before may have it twice.
    """
    if local is None:
        return None
    same = local.numbers_of.get(version.content_digest or "", set())
    if version.number is None:
        return min(same, default=None)
    own = local.further.get(version.number, version.number)
    return own if own in same else None


def _plan_aliases(plan: AdapterPlan, replace_aliases: bool) -> None:
    there = frozenset((*plan.added, *plan.unchanged))
    here = plan.local.aliases if plan.local else {}
    for alias in plan.manifest.aliases:
        whole = _drop_skipped(_renumber(alias, plan.renumbered), there)
        if whole is None:
            plan.kept.append(alias.name)
        elif alias.name not in here:
            plan.copied.append(whole)
        elif whole.current is not None and dict(whole.current.weights) != here[alias.name]:
            if replace_aliases:
                plan.moved[alias.name] = whole.current.weights
            else:
                plan.kept.append(alias.name)


def _renumber(alias: AliasManifest, numbers: Mapping[int, int]) -> AliasManifest:
    """The alias with the numbers that its versions have here."""
    if not any(numbers.keys() & state.weights.keys() for state in alias.states):
        return alias
    states = []
    for state in alias.states:
        weights: dict[int, int] = {}
        for number, weight in state.weights.items():
            own = numbers.get(number, number)
            weights[own] = weights.get(own, 0) + weight
        states.append(state.model_copy(update={"weights": weights}))
    return AliasManifest(name=alias.name, states=tuple(states))


def _drop_skipped(alias: AliasManifest, numbers: frozenset[int]) -> AliasManifest | None:
    """The alias without states of skipped versions; None if its current state is one."""
    states = tuple(state for state in alias.states if state.weights.keys() <= numbers)
    if not states or (alias.current is not None and states[-1] is not alias.current):
        return None
    return AliasManifest(name=alias.name, states=states)


def first_default(number: int, at: datetime, actor: str) -> AliasManifest:
    state = AliasStateManifest(
        revision=1, weights={number: 1}, valid_from=at, actor=actor, reason="first version"
    )
    return AliasManifest(name=DEFAULT_ALIAS, states=(state,))
