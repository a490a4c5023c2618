"""Ray Serve's number of replicas: the deployment's own, which may be another than `replicas`."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import RayError
from ray.serve.schema import ApplicationDetails, DeploymentDetails

from fleet.messages import Messages
from fleet.ports import ReplicaLost
from fleet.ray import replicas as module
from fleet.ray.replicas import ServeReplicas, _messages

HANDLE: Any = SimpleNamespace(
    app_name="adaptry", deployment_name="replica", options=lambda stream: None
)


def details(target: int) -> dict[str, Any]:
    """What is read of the controller's answer."""
    assert "target_num_replicas" in DeploymentDetails.model_fields
    assert "deployments" in ApplicationDetails.model_fields
    deployments = {"replica": {"target_num_replicas": target}}
    return {"applications": {"adaptry": {"deployments": deployments}}}


async def test_as_many_replicas_are_expected_as_the_deployment_has_to_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = SimpleNamespace(get_serve_details=lambda: details(5))
    monkeypatch.setattr(module, "_get_global_client", lambda: client)
    replicas = ServeReplicas(HANDLE, 2)
    assert await replicas.expected() == 5
    client.get_serve_details = lambda: details(1)
    assert await replicas.expected() == 5, "asked a moment ago"
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0.0)
    assert await replicas.expected() == 1


@pytest.mark.parametrize("found", [RayError("gone"), {"applications": {}}])
async def test_while_ray_does_not_tell_the_configured_number_is_expected(
    found: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_serve_details() -> object:
        if isinstance(found, Exception):
            raise found
        return found

    client = SimpleNamespace(get_serve_details=get_serve_details)
    monkeypatch.setattr(module, "_get_global_client", lambda: client)
    assert await ServeReplicas(HANDLE, 2).expected() == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RayError("it died\nTraceback …"), "it died"),
        (RayError(""), "RayError"),
        (RayError("\nbelow"), "below"),
    ],
)
async def test_a_replica_is_lost_whatever_ray_says_of_it(error: Exception, line: str) -> None:
    async def respond() -> AsyncGenerator[Messages]:
        raise error
        yield ()

    with pytest.raises(ReplicaLost) as lost:
        await anext(_messages(cast("Any", respond())))
    assert str(lost.value) == line
