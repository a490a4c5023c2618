"""Settled policy: one whose decisions are carried out, as by a fast engine that never fails."""

from engine.policy.decisions import Activate, Commit, Decision, StartLoad
from engine.policy.policy import CachePolicy


def settle(policy: CachePolicy) -> list[Decision]:
    """All loads and moves succeed; what was decided, until nothing more is to be done."""
    done: list[Decision] = []
    while decisions := policy.advance():
        for decision in decisions:
            match decision:
                case StartLoad(version):
                    policy.on_loaded(version, policy.size_of(version))
                case Commit(version) | Activate(version):
                    policy.on_moved(version)
        done += decisions
    return done
