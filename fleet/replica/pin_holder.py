"""Pin holder: a replica's side of the fleet's pins, none of which waits for another."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from engine.errors import EngineError, NotPinned
from engine.operations.pins import PinService
from engine.types import AdapterVersion, Tier, VersionId
from fleet.messages import Failure, WantedPin
from registry.errors import RegistryError

_ACTOR = "entrance"
_PATIENCE_SECONDS = 1.0
"""So long an ingress waits for pins that it has not asked for before."""


@dataclass(frozen=True, slots=True)
class _Pinning:
    tier: Tier
    task: "asyncio.Task[None]"


class PinHolder:
    """`check_base`: see `ReplicaServer.check_base`."""

    def __init__(self, pins: PinService, check_base: Callable[[str], Awaitable[None]]) -> None:
        self._pins = pins
        self._check_base = check_base
        self._running: dict[VersionId, _Pinning] = {}
        self._failed: dict[VersionId, Failure] = {}

    async def pin(self, version: AdapterVersion, tier: Tier) -> None:
        """Raises what `ReplicaServer.check_base` and `PinService.pin` raise."""
        await self._check_base(version.reference)
        await self._pins.pin(version, tier, actor=_ACTOR)

    async def hold(
        self, wanted: Sequence[WantedPin], changing: Set[VersionId]
    ) -> Mapping[str, Failure]:
        """Hold exactly these pins, and leave those in `changing` as they are.

        Returns the failures by reference. Loads that take longer go on behind it.
        """
        tiers = {pin.version.id: pin.tier for pin in wanted}
        self._cancel_others(tiers, changing)
        for kept in self._pins.active:
            if kept.version.id not in changing and tiers.get(kept.version.id) is not kept.tier:
                with suppress(NotPinned):
                    await self._pins.unpin(kept.version, actor=_ACTOR)
        held = {kept.version.id for kept in self._pins.active} | changing | self._running.keys()
        begun = [self._begin(pin) for pin in wanted if pin.version.id not in held]
        if begun:
            await asyncio.wait(begun, timeout=_PATIENCE_SECONDS)
        failed = {pin.version.reference: self._failed.get(pin.version.id) for pin in wanted}
        return {reference: failure for reference, failure in failed.items() if failure}

    def _cancel_others(self, tiers: Mapping[VersionId, Tier], changing: Set[VersionId]) -> None:
        for version, pinning in self._running.items():
            if version not in changing and tiers.get(version) is not pinning.tier:
                pinning.task.cancel()
        for version in self._failed.keys() - tiers.keys():
            del self._failed[version]

    def _begin(self, pin: WantedPin) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._try(pin))
        self._running[pin.version.id] = _Pinning(pin.tier, task)
        # also if it is cancelled before its first step
        task.add_done_callback(lambda _: self._running.pop(pin.version.id))
        return task

    async def _try(self, pin: WantedPin) -> None:
        """What fails is tried again when it is wanted again."""
        try:
            await self.pin(pin.version, pin.tier)
        except (EngineError, RegistryError) as error:
            self._failed[pin.version.id] = error
        else:
            self._failed.pop(pin.version.id, None)
