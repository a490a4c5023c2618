"""A real MLflow server with registered models: adapters and other things, aliases, a stage."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.registries.mlflow import mlflow_server, run_client

FILL = """
import sys
import mlflow
from mlflow import MlflowClient
url, first, second, third = sys.argv[1:]
mlflow.set_tracking_uri(url)
client = MlflowClient()

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return model_input

client.create_registered_model("Support Bot", tags={"team": "cx", "long tag": "a b"},
                               description="answers mails")
with mlflow.start_run() as run:
    mlflow.log_artifacts(first, "adapter")
    mlflow.log_artifacts(second, "model/peft")
    mlflow.log_artifacts(first, "both/a")
    mlflow.log_artifacts(second, "both/b")
    mlflow.log_text("hello", "note/readme.txt")
    logged = mlflow.pyfunc.log_model(name="m", python_model=Model(), pip_requirements=[],
                                     artifacts={"adapter": third})
source = run.info.artifact_uri
versions = [
    client.create_model_version("Support Bot", source + "/adapter", run.info.run_id,
                                tags={"rank": "4", "reviewed": ""}, description="the first"),
    client.create_model_version("Support Bot", f"runs:/{run.info.run_id}/model", run.info.run_id),
    client.create_model_version("Support Bot", f"runs:/{run.info.run_id}/note", run.info.run_id),
    mlflow.register_model(logged.model_uri, "Support Bot"),
    client.create_model_version("Support Bot", f"runs:/{run.info.run_id}/both", run.info.run_id),
    client.create_model_version("Support Bot", source + "/adapter", run.info.run_id),
]
client.set_registered_model_alias("Support Bot", "Champion", 2)
client.set_registered_model_alias("Support Bot", "copy", 6)
client.set_registered_model_alias("Support Bot", "lost", 3)
client.create_registered_model("no-adapter")
client.create_model_version("no-adapter", f"runs:/{run.info.run_id}/note", run.info.run_id)
client.create_registered_model("far-away")
client.create_model_version("far-away", "s3://bucket/adapter")
client.create_registered_model("staged")
client.create_model_version("staged", source + "/adapter", run.info.run_id)
client.transition_model_version_stage("staged", "1", "Production")
print(run.info.run_id)
"""


@dataclass
class Filled:
    """An MLflow server with a registry in it."""

    url: str
    run_id: str
    sources: Sequence[Path]


@contextmanager
def filled_server(folder: Path, sources: Sequence[Path]) -> Iterator[Filled]:
    """`sources`: the folders of three adapters."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    destination = str(folder / "artifacts")
    with mlflow_server(folder, port, "--artifacts-destination", destination) as url:
        run_id = run_client(url, FILL, *map(str, sources)).split()[-1]
        yield Filled(url, run_id, sources)
