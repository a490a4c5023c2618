"""Loads that can wait: not before it is nearly an adapter's turn, so that one load serves more."""

from engine.policy.decisions import Activate, Commit, Decision, Grant, StartLoad
from engine.policy.planner import READY_AHEAD
from engine.policy.policy import CachePolicy
from engine.types import VersionId

HOT, COLD = VersionId(1), VersionId(99)
READY = [VersionId(n) for n in range(2, 2 + READY_AHEAD)]


def settle(policy: CachePolicy) -> list[Decision]:
    """All loads and moves succeed."""
    done: list[Decision] = []
    while decisions := policy.advance():
        for decision in decisions:
            match decision:
                case StartLoad(version):
                    policy.on_loaded(version)
                case Commit(version) | Activate(version):
                    policy.on_moved(version)
        done += decisions
    return done


def busy_policy() -> CachePolicy:
    """One slot, leased to the hot adapter; all that are ready wait for it in host memory."""
    policy = CachePolicy(slots=1, host_capacity=40)
    policy.arrive(1, HOT)
    settle(policy)
    for ticket, version in enumerate(READY, start=2):
        policy.arrive(ticket, version)
        settle(policy)
    return policy


def test_a_load_waits_while_enough_older_ones_are_ready() -> None:
    policy = busy_policy()
    for ticket in (100, 101, 102):
        policy.arrive(ticket, COLD)
        assert settle(policy) == [], "its turn is far away"
    policy.release(HOT)
    decided = settle(policy)
    assert StartLoad(COLD) in decided, "one fewer is ready, so it is loaded before its turn"
    for version in READY:
        policy.release(version)
        decided = settle(policy)
    granted = [decision.ticket for decision in decided if isinstance(decision, Grant)]
    assert granted == [100, 101, 102], "one load for all who came meanwhile"


def test_what_came_before_those_that_are_ready_is_loaded_at_once() -> None:
    policy = CachePolicy(slots=1, host_capacity=40)
    for version in READY:
        policy.prefetch(version)
        settle(policy)
    policy.arrive(1, HOT)
    settle(policy)
    policy.arrive(2, COLD)
    for ticket, version in enumerate(READY, start=3):
        policy.arrive(ticket, version)
    assert StartLoad(COLD) in policy.advance()


def test_an_operators_prefetch_does_not_wait_with_it() -> None:
    policy = busy_policy()
    policy.arrive(100, COLD)
    policy.prefetch(wanted := VersionId(98))
    started = [each for each in settle(policy) if isinstance(each, StartLoad)]
    assert started == [StartLoad(wanted)]
