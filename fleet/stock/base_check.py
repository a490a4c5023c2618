"""Base check: whether a stock server serves the base model whose adapters it would be given.

Its `/v1/models` tells what it was started with: a name on the Hub, or a folder.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineUnavailable
from fleet.stock.client import StockVllm
from registry.inspection.base_identity import BaseIdentity, identity_of


@dataclass(frozen=True, slots=True)
class BaseCheck:
    """`is_declared`: the operator has named the base model, and vouches for the servers."""

    identity: BaseIdentity
    is_declared: bool = False

    async def check(self, server: StockVllm) -> None:
        """Raises EngineUnavailable if it serves another one, or does not answer."""
        if self.is_declared:
            return
        served = _base_names(await server.cards())
        if not await asyncio.to_thread(self._is_ours, served):
            raise EngineUnavailable(
                f"{server.url} serves the base model {' and '.join(served) or 'none'}, not "
                f"{self.identity.name}: it gets none of its adapters. If it is the same one, "
                "declare it with --base-id"
            )

    def _is_ours(self, served: Sequence[str]) -> bool:
        return any(self._is_it(model) for model in served)

    def _is_it(self, model: str) -> bool:
        """By the weights, if its folder is on this machine too; else by the last part of its name.

        Which revision of a model of the Hub a server has, it does not tell.
        """
        folder = Path(model)
        if _is_here(folder):
            return identity_of(model, folder).name == self.identity.name
        return self.identity.is_called(model)


def _is_here(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # below a folder that only the server's user may enter
        return False


def _base_names(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the server was started with; its adapters have a parent."""
    roots = (card.get("root") or card["id"] for card in cards if not card.get("parent"))
    return sorted({str(root) for root in roots})
