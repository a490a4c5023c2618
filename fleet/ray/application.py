"""The fleet as an application on Ray Serve: `import_path: fleet.ray.application:build`."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from types import SimpleNamespace
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from engine.settings import EngineSettings
from fleet.messages import Answered, EngineFacts, ForwardedRequest, Messages
from fleet.options import FleetOptions
from fleet.process import begin_process, engine_arguments, gpus_of
from fleet.ray.loopback import listen_on_the_nodes_address_only
from fleet.ray.request_router import WHEREABOUTS

ENTRANCE = "entrance"
REPLICA = "replica"

# The replicas' own limits decide how many requests wait; Ray Serve's would hide them.
_MAX_ONGOING_REQUESTS = 1_000_000
_LOOK_SECONDS = 1.0
_QUIET = LoggingConfig(enable_access_log=False)


def build(options: FleetOptions) -> Application:
    """One entrance before `options.replicas` replicas."""
    replica = serve.deployment(
        name=REPLICA,
        num_replicas=options.replicas,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        logging_config=_QUIET,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        graceful_shutdown_timeout_s=options.drain_seconds,
        health_check_period_s=_LOOK_SECONDS,
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
            request_routing_stats_period_s=_LOOK_SECONDS,  # type: ignore[arg-type]
        ),
    )(EngineReplica)
    entrance = serve.deployment(
        name=ENTRANCE,
        num_replicas=1,
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        health_check_period_s=_LOOK_SECONDS,
        ray_actor_options={"num_cpus": 0},
        logging_config=_QUIET,
    )(serve.ingress()(FleetEntrance))
    return entrance.bind(options, replica.bind(options))


class EngineReplica:
    """Ray Serve's side of `fleet.replica.replica.Replica`."""

    async def __init__(self, options: FleetOptions) -> None:  # type: ignore[misc]  # Ray awaits it
        from engine.app import running_server
        from fleet.replica.replica import Replica

        begin_process(options)
        listen_on_the_nodes_address_only()
        self._stack = AsyncExitStack()
        settings = EngineSettings(**options.engine).model_copy(update={"preload": ()})
        arguments = engine_arguments(options)
        self._server = await self._stack.enter_async_context(
            running_server(arguments, settings, options.registry_settings(), is_replica=True)
        )
        self._server.app.state.server = SimpleNamespace(should_exit=False)
        served = await self._server.supervisor.life.backend.served_modules()
        facts = EngineFacts(
            model=arguments.model,
            served_names=tuple(arguments.served_model_name or [arguments.model]),
            served_modules=served,
            max_rank=arguments.max_lora_rank,
            allowed_origins=tuple(arguments.allowed_origins),
        )
        name = serve.get_replica_context().replica_id.unique_id
        self._replica = Replica(name, self._server, facts)

    async def answer(self, request: ForwardedRequest) -> AsyncGenerator[Messages]:
        """See `Replica.answer`."""
        async with aclosing(self._replica.answer(request)) as batches:
            async for messages in batches:
                yield messages

    async def ask(
        self, operation: str, arguments: tuple[Any, ...], only: frozenset[str] | None
    ) -> Answered[Any] | None:
        """See `Replica.ask`."""
        return await self._replica.ask(operation, arguments, only)

    def record_routing_stats(self) -> dict[str, Any]:
        """What `AdapterRouter` reads; Ray Serve asks for it every second."""
        return {WHEREABOUTS: self._replica.whereabouts()}

    async def check_health(self) -> None:
        """Raises RuntimeError if this replica has to be replaced; its engine it replaces itself."""
        if self._server.app.state.server.should_exit:
            raise RuntimeError("what has to run beside the engine has ended")

    async def __del__(self) -> None:
        await self._stack.aclose()


class FleetEntrance:
    """Ray Serve's side of `fleet.ingress.app.Entrance`."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, options: FleetOptions, replicas: DeploymentHandle[Any]
    ) -> None:
        from engine.bootstrap.registry import register_folders
        from fleet.ingress.app import running_entrance
        from fleet.ray.replicas import ServeReplicas

        begin_process(options)
        listen_on_the_nodes_address_only()
        self._stack = AsyncExitStack()
        port = ServeReplicas(replicas)
        settings = EngineSettings(**options.engine)
        self._entrance = await self._stack.enter_async_context(
            running_entrance(port, settings, options.registry_settings(), expected=options.replicas)
        )
        await register_folders(self._entrance.service, options.adapters)
        await self._entrance.preload(settings.preload)

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray Serve's name
        return self._entrance.app

    async def check_health(self) -> None:
        """Raises RuntimeError if the entrance has to be replaced."""
        if not self._entrance.is_well:
            raise RuntimeError("what has to run beside the entrance has ended")

    async def __del__(self) -> None:
        self._entrance.stop()
        await self._stack.aclose()
