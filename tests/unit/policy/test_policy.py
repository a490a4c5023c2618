"""The cache policy with LRU, its default, against a plain model."""

from engine.policy.eviction_orders.lru import LruOrder
from tests.support.cache.policy_machine import PlainLru, policy_test

TestPolicy = policy_test(LruOrder, PlainLru, examples=300)
