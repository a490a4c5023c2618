"""What MLflow's client makes of a server that answers with something else."""

from base64 import b64encode
from collections.abc import Iterator

import pytest

from registry.sources.registries.mlflow_client import MlflowClient, MlflowError
from tests.support.servers.scripted_http import Answers, answering


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


def test_a_password_in_its_url_is_used_and_shown_nowhere(server: Answers) -> None:
    url = server.url.replace("//", "//ann:secret@")
    server.will_say(500, {"message": "no"})
    with MlflowClient(url) as client:
        with pytest.raises(MlflowError) as caught:
            client.version("a", "1")
        assert client.url == server.url
    nowhere = MlflowClient("http://ann:secret@127.0.0.1:1")
    with nowhere as client, pytest.raises(MlflowError) as unreached:
        client.version("a", "1")
    assert "secret" not in f"{caught.value} {unreached.value}"
    assert server.keys == [f"Basic {b64encode(b'ann:secret').decode()}"]
