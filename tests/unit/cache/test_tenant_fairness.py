"""Tenant limits and fairness in one cache: a property test over random histories.

The clock is set by hand, the backend is the fake one. What must hold is looked at after each step.
"""

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cache.tenant_memory import Tenancy
from engine.errors import EngineError, TenantLimitReached
from engine.types import AdapterVersion, AdmissionLimits, Tier
from registry.quotas.limits import NO_LIMITS, TenantLimits
from tests.support.cache.controller_harness import Cache, adapter, running, until

SLOTS, HOST = 3, 6
SIZES = (60, 100, 140, 100, 60)
ACME = [replace(adapter(n + 1, f"acme~a{n}"), size_bytes=SIZES[n]) for n in range(5)]
ZETA = [adapter(n + 11, f"zeta~z{n}") for n in range(3)]
PLAIN = [adapter(21, "plain")]
EVERYBODY = [*ACME, *ZETA, *PLAIN]


def owner(name: str) -> str | None:
    tenant, tilde, _ = name.partition("~")
    return tenant if tilde else None


class Request:
    """`granted`: it holds its adapter. It ends when the test ends it."""

    def __init__(self, world: "World", version: AdapterVersion) -> None:
        self.version = version
        self.granted = False
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(world))

    async def _run(self, world: "World") -> None:
        try:
            async with world.cache.controller.lease(self.version):
                self.granted = True
                await self._end.wait()
        except TenantLimitReached as refusal:
            limit = world.limits["acme"].max_host_bytes
            if limit is None or self.version.size_bytes <= limit:
                raise AssertionError("refused within its limit") from refusal

    def end(self) -> None:
        self._end.set()


class World:
    def __init__(self, acme: TenantLimits, zeta: TenantLimits) -> None:
        self.limits = {"acme": acme, "zeta": zeta}
        self.now = 0.0
        self.requests: list[Request] = []
        self.cache = Cache(
            slots=SLOTS,
            host=HOST,
            limits=AdmissionLimits(max_slot_wait_seconds=60, slot_timeout_seconds=600),
            clock=lambda: self.now,
            tenancy=Tenancy(owner, lambda tenant: self.limits.get(tenant, NO_LIMITS)),
        )

    def check(self) -> None:
        self.cache.policy.check()
        for tenant, limits in self.limits.items():
            usage = self.cache.controller.tenants.usage(tenant)
            held = {r.version.id for r in self.requests if r.granted and not r.task.done()}
            held = {v.id for v in EVERYBODY if v.id in held and owner(v.adapter) == tenant}
            assert len(held) <= usage.slots
            if limits.max_slots is not None:
                assert usage.slots <= limits.max_slots
            if limits.max_host_bytes is not None:
                assert usage.host_bytes <= limits.max_host_bytes
            if limits.max_pins is not None:
                assert usage.pins <= limits.max_pins

    async def settle(self) -> None:
        for _ in range(25):
            await asyncio.sleep(0)
        self.requests = [request for request in self.requests if not request.task.done()]
        self.check()

    async def look(self, seconds: float) -> None:
        """Time passes, and the controller's periodic check runs."""
        self.now += seconds
        controller = self.cache.controller
        patience = controller._admission.patience_seconds()
        for ticket, _ in controller._state.overdue_requests(patience):
            self.cache.policy.drain_for(ticket)
        controller._executor.advance()
        self.cache.controller.tenants.check_queues()
        await self.settle()

    async def serve_all(self) -> None:
        """The oldest requests end first, as time passes: then no request is left waiting."""
        for pinned in list(self.cache.policy.pins):
            self.cache.controller.unpin(pinned)
        for _ in range(4 * len(self.requests) + 4):
            if not self.requests:
                return
            if granted := [request for request in self.requests if request.granted]:
                granted[0].end()
            await self.settle()
            await self.look(61)
        raise AssertionError(f"still waiting: {[r.version.reference for r in self.requests]}")


Step = tuple[str, int]
few = st.none() | st.integers(min_value=1, max_value=3)
some_bytes = st.none() | st.integers(min_value=100, max_value=400)
tenant_limits = st.builds(TenantLimits, max_slots=few, max_host_bytes=some_bytes, max_pins=few)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "end", "cancel", "pin", "unpin", "prefetch", "evict", "wait"]
        ),
        st.integers(min_value=0, max_value=999),
    ),
    max_size=40,
)


async def take(world: World, step: Step) -> None:
    what, number = step
    version = EVERYBODY[number % len(EVERYBODY)]
    controller, requests = world.cache.controller, world.requests
    try:
        match what:
            case "ask":
                requests.append(Request(world, version))
            case "end" if requests:
                requests[number % len(requests)].end()
            case "cancel" if requests:
                requests[number % len(requests)].task.cancel()
            case "pin":
                async with asyncio.timeout(0.02):
                    await controller.pin(version, Tier.HOST)
            case "unpin":
                controller.unpin(version.id)
            case "prefetch":
                controller.prefetch(version)
            case "evict":
                await controller.evict(version)
            case "wait":
                await world.look(number % 70)
    except (EngineError, TimeoutError):
        pass


async def play(acme: TenantLimits, zeta: TenantLimits, story: list[Step]) -> None:
    world = World(acme, zeta)
    async with running(world.cache):
        for step in story:
            await take(world, step)
            await world.settle()
        everybody = list(world.requests)
        await world.serve_all()
        await asyncio.gather(*(request.task for request in everybody), return_exceptions=True)
        await until(lambda: not world.cache.policy.in_transit())
        world.cache.check()
        for tenant in world.limits:
            usage = world.cache.controller.tenants.usage(tenant)
            assert (usage.slots, usage.waiting, usage.pins) == (0, 0, 0)
        assert not world.cache.controller.tenants._queues


@settings(max_examples=60)
@given(acme=tenant_limits, zeta=tenant_limits, story=steps)
def test_limits_hold_every_request_is_served_and_nothing_leaks(
    acme: TenantLimits, zeta: TenantLimits, story: list[Step]
) -> None:
    asyncio.run(play(acme, zeta, story))


async def test_a_tenants_cold_adapter_gets_a_slot_among_its_hot_ones() -> None:
    """Each hot adapter is requested again before its last request has ended."""
    world = World(TenantLimits(max_slots=2), NO_LIMITS)
    async with running(world.cache):
        hot = [[Request(world, ACME[0])], [Request(world, ACME[1])]]
        await world.settle()
        cold = Request(world, ACME[2])
        rounds = 0
        while not cold.granted:
            rounds += 1
            assert rounds < 20, "it starves"
            for requests in hot:
                requests.append(Request(world, requests[-1].version))
                await world.settle()
                requests.pop(0).end()
                await world.settle()
            await world.look(10)
        assert world.now >= 60 * 0.25
        world.requests = [*hot[0], *hot[1], cold]
        await world.serve_all()
