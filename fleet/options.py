"""Options of a fleet: the arguments of its application on Ray Serve."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from registry.cache_history import replica_name
from registry.settings import RegistrySettings

FLEET = "fleet"
"""The server's name if none is declared: its ingress may move to another machine."""


class ReplicaClass(BaseModel):
    """Replicas with arguments of their own, such as a smaller `--max-lora-rank` and more slots."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    replicas: PositiveInt = Field(description="Number of engines.")
    vllm: tuple[str, ...] = Field(description="Their arguments of `vllm serve`, after the others.")


class FleetOptions(BaseModel):
    """`args` of the application in a Ray Serve config.

    The database's URL comes from the environment of each node, `ADAPTRY_DATABASE_URL`: it may hold
    a password, and Ray shows its configuration to anyone who can reach it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="The base model: a folder, or a name on the Hub.")
    replicas: PositiveInt = Field(2, description="Number of engines.")
    vllm: tuple[str, ...] = Field((), description="Arguments of `vllm serve` for each engine.")
    classes: tuple[ReplicaClass, ...] = Field(
        (),
        description="Engines with other arguments: `replicas`, their number, and `vllm`, what is "
        "added for them. The rest has only the arguments above.",
    )
    engine: dict[str, Any] = Field({}, description="Engine settings by name.")
    registry: dict[str, Any] = Field(
        {}, description="Registry settings by name, except the database."
    )
    adapters: tuple[tuple[str, Path], ...] = Field(
        (), description="Adapters to register at startup: name and folder."
    )
    gpus_per_replica: float | None = Field(
        None,
        ge=0,
        description="GPUs that Ray reserves for each engine; null: one for each rank of vLLM.",
    )
    cpus_per_replica: float = Field(0, ge=0, description="Cores that Ray reserves for each engine.")
    slack_requests: PositiveInt = Field(
        4, description="Requests that a replica may have above the least busy one."
    )
    share_of_average: PositiveFloat = Field(
        1.25, description="Or this multiple of the average, whichever is more."
    )
    drain_seconds: PositiveFloat = Field(
        60.0, description="Time for a replica that is being removed to finish its requests."
    )
    allow_untested_vllm: bool = Field(
        False, description="Start with a vLLM older than the tested ones too."
    )

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        """Only the deployment may say how many replicas there are: then it isn't known here."""
        wanted = sum(each.replicas for each in self.classes)
        if "replicas" in self.model_fields_set and wanted > self.replicas:
            raise ValueError(
                f"the classes have {wanted} replicas, more than the {self.replicas} of `replicas`"
            )
        return self

    def arguments_of(self, place: int) -> tuple[str, ...]:
        """vLLM's arguments of the engine with this number, from 0: the classes come first."""
        for each in self.classes:
            if place < each.replicas:
                return (*self.vllm, *each.vllm)
            place -= each.replicas
        return self.vllm

    def arguments_in_use(self) -> list[tuple[str, ...]]:
        """Each different one of all engines. If only the deployment says how many there are, of as
        many as have any.
        """
        places = self.replicas
        if "replicas" not in self.model_fields_set:
            places = sum(each.replicas for each in self.classes) + 1
        return list(dict.fromkeys(map(self.arguments_of, range(places))))

    def registry_settings(self) -> RegistrySettings:
        """The registry settings, with the database from the environment."""
        return RegistrySettings(**self.registry)

    def replica_name(self, replica: str) -> str:
        """The name under which its history is kept."""
        return replica_name(self.registry_settings().server_id or FLEET, replica)
