"""Probe: compares an adapter's log probabilities of a prompt with the base model's.

Inspection proves that an adapter fits; the probe proves that it has an effect, on this engine.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from engine.cache.controller import CacheController
from engine.errors import EngineError
from engine.types import AdapterVersion

Score = Callable[[AdapterVersion | None], Awaitable[Sequence[float]]]
"""Numbers of one fixed prompt, by the base model or by a leased version.

Log probabilities, or what an engine pools that embeds or classifies.
"""

logger = logging.getLogger(__name__)

SMALLEST_CHANGE = 1e-6  # of a log probability; on a GPU the noise below decides


class ProbeFailure(StrEnum):
    """What a probe found. Codes never change their meaning."""

    NO_DIFFERENCE = "probe_no_difference"
    NOT_FINITE = "probe_not_finite"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`difference`: the largest between its log probabilities and the base model's, if finite.

    `noise`: the same between two runs of the base model.
    """

    reference: str
    difference: float | None
    noise: float
    failure: ProbeFailure | None


class Probe:
    """Holds a lease while the version generates, as any request does."""

    def __init__(self, controller: CacheController, score: Score) -> None:
        self._controller = controller
        self._score = score

    async def run(self, version: AdapterVersion) -> ProbeResult:
        """Compare. A failure is a finding on this engine, which may be the one that is sick.

        So it keeps an alias from moving, and takes nothing out of service: an operator may. The
        version is evicted, so that the next probe loads it anew.
        Raises what `CacheController.lease` raises; that says nothing about the version.
        """
        base, again = await self._score(None), await self._score(None)
        async with self._controller.lease(version):
            own = await self._score(version)
        result = judge(version.reference, base, again, own)
        if result.failure is not None:
            logger.warning("%s did not pass its probe: %s", version.reference, _reason(result))
            with suppress(EngineError):  # in use or pinned: then it is evicted as any other
                await self._controller.evict(version)
        return result


def judge(
    reference: str, base: Sequence[float], again: Sequence[float], own: Sequence[float]
) -> ProbeResult:
    """`own` must differ from `base` by more than two runs of `base` differ."""
    noise = _largest(base, again)
    difference = _largest(base, own)
    if not math.isfinite(difference):
        return ProbeResult(reference, None, noise, ProbeFailure.NOT_FINITE)
    is_noise = difference <= max(2 * noise, SMALLEST_CHANGE)
    return ProbeResult(
        reference, difference, noise, ProbeFailure.NO_DIFFERENCE if is_noise else None
    )


def _largest(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):  # heads with different numbers of labels
        return math.nan if any(map(math.isnan, other)) else 1.0
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def _reason(result: ProbeResult) -> str:
    if result.failure is ProbeFailure.NOT_FINITE:
        return "the engine computes no finite numbers with it"
    return f"the answers are the base model's (difference {result.difference:.1e})"


class ProbeRunner(Protocol):
    """A `Probe` in this process, or on a replica."""

    async def run(self, version: AdapterVersion) -> ProbeResult: ...
