"""Choice of an eviction policy by its name."""

from dataclasses import dataclass

from engine.policy.eviction_orders.adaptive import AdaptiveOrder
from engine.policy.eviction_orders.base import EvictionOrder
from engine.policy.eviction_orders.cost import CostOrder
from engine.policy.eviction_orders.lfu import LfuOrder
from engine.policy.eviction_orders.look_ahead import LookAheadOrder
from engine.policy.eviction_orders.lru import LruOrder
from engine.policy.eviction_orders.s3_fifo import S3FifoOrder
from engine.types import EvictionPolicy


@dataclass(frozen=True, slots=True)
class TierOrders:
    """Empty orders of one cache. `slots` None: the slots are in the order of host memory."""

    host: EvictionOrder
    slots: EvictionOrder | None


def create_orders(policy: EvictionPolicy, *, per_byte: bool = False) -> TierOrders:
    """`per_byte`: host memory has a budget of bytes, so that large adapters cost more."""
    match policy:
        case EvictionPolicy.LRU:
            return TierOrders(LruOrder(), None)
        case EvictionPolicy.LOOK_AHEAD:
            return TierOrders(LookAheadOrder(), None)
        case EvictionPolicy.LFU:
            return TierOrders(LfuOrder(), LfuOrder())
        case EvictionPolicy.S3_FIFO:
            return TierOrders(S3FifoOrder(), S3FifoOrder())
        case EvictionPolicy.COST:
            return TierOrders(CostOrder(per_byte=per_byte), CostOrder())
        case EvictionPolicy.ADAPTIVE:
            return TierOrders(AdaptiveOrder(), AdaptiveOrder())
