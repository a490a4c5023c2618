"""Ray Serve application of a fleet: `import_path: fleet.ray.application:build`."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from types import SimpleNamespace
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve._private import replica as serve_replica
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from ray.util import get_node_ip_address
from starlette.types import ASGIApp

from engine.settings import EngineSettings
from fleet.messages import EngineFacts, ForwardedRequest, Messages, ReplicaResult
from fleet.options import FleetOptions
from fleet.process import begin_process, engine_arguments, fleet_rank, gpus_of
from fleet.ray.request_router import RESIDENCY

logger = logging.getLogger(__name__)

INGRESS = "entrance"
REPLICA = "replica"

# The replicas' own limits decide how many requests wait; Ray Serve's would hide them.
_MAX_ONGOING_REQUESTS = 1_000_000
_CHECK_SECONDS = 1.0
_QUIET = LoggingConfig(enable_access_log=False)
_ALL_ADDRESSES = "[::]:0"


def build(options: FleetOptions) -> Application:
    """One ingress in front of `options.replicas` replicas."""
    replica = serve.deployment(
        name=REPLICA,
        num_replicas=options.replicas,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        logging_config=_QUIET,
        graceful_shutdown_wait_loop_s=_CHECK_SECONDS,
        graceful_shutdown_timeout_s=options.drain_seconds,
        health_check_period_s=_CHECK_SECONDS,
        ray_actor_options={
            "num_cpus": options.cpus_per_replica,
            "num_gpus": gpus_of(options),
        },
        request_router_config=RequestRouterConfig(
            request_router_class="fleet.ray.request_router.AdapterRouter",  # type: ignore[arg-type]  # theirs are wrong
            request_router_kwargs={
                "slack": options.slack_requests,
                "share": options.share_of_average,
            },
            request_routing_stats_period_s=_CHECK_SECONDS,  # type: ignore[arg-type]
        ),
    )(EngineReplica)
    ingress = serve.deployment(
        name=INGRESS,
        num_replicas=1,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        health_check_period_s=_CHECK_SECONDS,
        ray_actor_options={"num_cpus": 0},
        logging_config=_QUIET,
    )(serve.ingress()(FleetIngress))
    return ingress.bind(options, replica.bind(options))


class EngineReplica:
    """Ray Serve's side of `fleet.replica.replica.Replica`."""

    async def __init__(self, options: FleetOptions) -> None:  # type: ignore[misc]  # Ray awaits it
        from engine.app import run_server
        from fleet.replica.replica import Replica

        # an engine that died is replaced: vLLM's handler of its error is not to end the replica
        os.environ["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "1"
        begin_process(options)
        listen_on_node_address_only()
        self._stack = AsyncExitStack()
        settings = EngineSettings(**options.engine).model_copy(update={"preload": ()})
        context = serve.get_replica_context()
        arguments = engine_arguments(options, options.arguments_of(context.rank.rank))
        name = context.replica_id.unique_id
        running = run_server(
            arguments, settings, options.registry_settings(), replica=options.replica_name(name)
        )
        self._server = await self._stack.enter_async_context(running)
        self._server.app.state.server = SimpleNamespace(should_exit=False)
        served = await self._server.supervisor.process.backend.served_modules()
        facts = EngineFacts(
            model=arguments.model,
            served_names=tuple(arguments.served_model_name or [arguments.model]),
            served_modules=served,
            max_rank=arguments.max_lora_rank,
            allowed_origins=tuple(arguments.allowed_origins),
            revision=arguments.revision,
            fleet_rank=fleet_rank(options),
        )
        self._replica = Replica(
            name, self._server, facts, silent_seconds=settings.silent_request_seconds()
        )

    async def handle(self, request: ForwardedRequest) -> AsyncGenerator[Messages]:
        """See `Replica.handle`."""
        async with aclosing(self._replica.handle(request)) as batches:
            async for messages in batches:
                yield messages

    async def call(
        self, operation: str, arguments: tuple[Any, ...], only: frozenset[str] | None
    ) -> ReplicaResult[Any] | None:
        """See `Replica.call`."""
        return await self._replica.call(operation, arguments, only)

    def record_routing_stats(self) -> dict[str, Any]:
        """What `AdapterRouter` reads; Ray Serve calls this every second."""
        return {RESIDENCY: self._replica.residency()}

    async def check_health(self) -> None:
        """Raises RuntimeError if this replica must be replaced. It restarts its engine itself."""
        if self._server.app.state.server.should_exit:
            raise RuntimeError("a background task of the replica has ended")

    async def __del__(self) -> None:
        await self._stack.aclose()


class FleetIngress:
    """Ray Serve's side of `fleet.ingress.app.Ingress`."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, options: FleetOptions, replicas: DeploymentHandle[Any]
    ) -> None:
        from engine.bootstrap.registry import register_folders
        from fleet.ingress.app import run_ingress
        from fleet.ray.replicas import ServeReplicas

        begin_process(options)
        listen_on_node_address_only()
        self._stack = AsyncExitStack()
        port = ServeReplicas(replicas, options.replicas)
        settings = EngineSettings(**options.engine)
        self._ingress = await self._stack.enter_async_context(
            run_ingress(port, settings, options.registry_settings(), expected=port.expected)
        )
        await register_folders(self._ingress.service, options.adapters)
        await self._ingress.preload(settings.preload)

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray Serve's name
        return self._ingress.app

    async def check_health(self) -> None:
        """Raises RuntimeError if the ingress must be replaced."""
        if not self._ingress.is_healthy:
            raise RuntimeError("a background task of the ingress has ended")

    async def __del__(self) -> None:
        self._ingress.stop()
        await self._stack.aclose()


def listen_on_node_address_only() -> None:
    """Keep Ray Serve's own port of a replica off all addresses but the node's.

    Ray Serve (2.60) opens it on every address (`Replica._on_initialized` of
    `ray.serve._private.replica`), and its callers use the node's. The port asks for a token, but is
    better not reachable at all. Call this in a replica's constructor, before the port is opened.
    """
    add_port = getattr(serve_replica, "add_port_to_grpc_server", None)
    if add_port is None:
        logger.warning("this Ray Serve opens its ports in another way: check where it listens")
        return
    address = f"{get_node_ip_address()}:0"  # type: ignore[no-untyped-call]  # theirs

    def add_port_here(server: Any, asked: str) -> Any:
        return add_port(server, address if asked == _ALL_ADDRESSES else asked)

    vars(serve_replica)["add_port_to_grpc_server"] = add_port_here
