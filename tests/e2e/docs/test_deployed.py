"""The server as deploy/ runs it: by an unprivileged user, on a root that can't be written to.

It begins on a database of the first schema, is backed up while it answers, and is told to stop
while it streams; its backup is restored for a server elsewhere.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from vllm import envs

from demo.tasks import TASKS, prompt_for
from tests.db import old_schemas as past
from tests.support.adapters.demo_files import keep_demo_adapter
from tests.support.databases.postgres import PostgresServer
from tests.support.docs.containerfile import ROOT, all_of, environment, stages
from tests.support.servers.adaptry_serve import ServedDemo
from tests.support.servers.container_sandbox import INSTALLED, Image

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

UNIT = (ROOT / "deploy" / "systemd" / "adaptry.service").read_text(encoding="utf-8")
DEMO = "/mnt/demo"
PROFILE = "/mnt/profile.yaml"
SERVICE_USER = 61234  # from the range that DynamicUser takes
SOCKETS = "/mnt"
SOCKET = ".s.PGSQL.5432"
PAGES = (
    "/adapters",
    "/versions",
    "/adapters/support/aliases",
    "/adapters/support/aliases/prod/history",
    "/events",
    "/resolve?reference=support@prod",
)
REFERENCES = {"support": "reverse", "support:1": "upper", "support@prod": "rot13"}
TOKENS = 200


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if os.geteuid() != 0:
        pytest.skip("root is needed to become another user")
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
    folder = Path(tempfile.mkdtemp(prefix="adaptry-image-"))
    folder.chmod(0o755)
    try:
        built = Image(folder)
        built.build("cpu")
        yield built
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Deployed(ServedDemo):
    """By the image's entry point, or by the unit's ExecStart."""

    forks = False  # it is executed where nothing else is

    def __init__(self, image: Image, folder: Path, how: str, sockets: Path) -> None:
        super().__init__(folder)
        self.how = how
        self.is_container = how == "container"
        self._image = image
        self._sockets = sockets
        self.user = SERVICE_USER
        if self.is_container:
            self.user = int(all_of(stages()[-1], "USER")[0].value.partition(":")[0])
        self.state, self.cache_folder = folder / "state", folder / "cache"
        for place in (self.state, self.cache_folder):
            place.mkdir()
        if not self.is_container:
            self._know_models()
        for place in (self.state, self.cache_folder, *self.cache_folder.rglob("*")):
            os.chown(place, self.user, self.user)
        profile = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8"))
        profile["vllm"]["shutdown-timeout"] = 30
        (folder / "profile.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")

    def _know_models(self) -> None:
        """As after a first start, in which vLLM imports a model's class in a process of its own.

        The container's is the first.
        """
        known = Path(envs.VLLM_CACHE_ROOT) / "modelinfos"
        if known.exists():
            shutil.copytree(known, self.cache_folder / "vllm" / "modelinfos")

    def environment(self) -> dict[str, str]:
        variables = environment(stages()[-1])
        if not self.is_container:
            pairs = re.findall(r"^Environment=(\w+)=(.*)$", UNIT, re.MULTILINE)
            variables = {**dict(pairs), "PATH": "/usr/bin:/bin"}
            variables["ADAPTRY_DATABASE_URL"] = f"postgresql://adaptry@/deployed?host={SOCKETS}"
        return {**variables, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def inside(self, *command: str, first: bool = False) -> list[str]:
        """A command as the server's own user, in its file system."""
        sockets = {} if self.is_container else {self._sockets / SOCKET: f"{SOCKETS}/{SOCKET}"}
        return self._image.command(
            command,
            self.environment(),
            user=self.user,
            writable={self.state: "/var/lib/adaptry", self.cache_folder: "/var/cache/adaptry"},
            readable={ROOT / "demo": DEMO, self.folder / "profile.yaml": PROFILE, **sockets},
            first=first,
        )

    def command(self, port: int) -> list[str]:
        if self.is_container:
            program = [*all_of(stages()[-1], "ENTRYPOINT")[0].words, "serve", f"{DEMO}/base"]
        else:
            (line,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
            program = line.replace("${MODEL}", f"{DEMO}/base").split(" --profile ")[0].split()
        more = ["--profile", PROFILE, "--dtype", "float32", "--port", str(port)]
        return self.inside(*program, *more, "--source-root", DEMO, first=self.is_container)

    def server(self) -> psutil.Process:
        """Not bubblewrap, which waits for it."""
        (found,) = self.process.children()
        return found

    def is_healthy(self) -> int:
        """The exit code of the image's check."""
        program = all_of(stages()[-1], "HEALTHCHECK")[0].value.partition("CMD ")[2]
        _, script = json.loads(program)
        python = f"{INSTALLED}/.venv/bin/python"
        url = f"ADAPTRY_SERVER={str(self.client.base_url).rstrip('/')}"
        checking = self.inside("env", url, python, script)
        return subprocess.run(checking, check=False, capture_output=True).returncode


@dataclass
class Life:
    """What was seen of one deployment."""

    how: str
    user: int
    uids: set[int] = field(default_factory=set)
    privileges: set[tuple[str, ...]] = field(default_factory=set)
    root_options: str = ""
    without_key: int = 0
    healthy: tuple[int, int] = (-1, -1)
    streamed: list[str] = field(default_factory=list)
    late: tuple[int, str, int] = (0, "", 0)
    exit_code: int | None = None
    stop_seconds: float = 0.0
    told: list[Any] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    told_elsewhere: list[Any] = field(default_factory=list)
    texts_elsewhere: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module", params=["container", "systemd"])
def life(
    request: pytest.FixtureRequest, image: Image, postgres: PostgresServer, tmp_path_factory: Any
) -> Life:
    """SQLite in the container, PostgreSQL below systemd."""
    folder = tmp_path_factory.mktemp(request.param)
    deployed = Deployed(image, folder, request.param, postgres.sockets)
    seen = Life(request.param, deployed.user)
    urls = ("sqlite:///{}/state/registry.db", "sqlite:///{}/elsewhere/registry.db")
    here, there = (url.format(folder) for url in urls)
    if not deployed.is_container:
        here, there = map(postgres.new_database, ("deployed", "elsewhere"))
    as_the_first_release_left_it(here, deployed)
    if deployed.is_container:
        give_key(deployed)
    backup = folder / "backup"
    with running(deployed):
        change(deployed.client)
        seen.without_key = without_key(deployed)
        seen.told, seen.texts = told(deployed.client), texts(deployed)
        look(deployed, seen)
        back_up(deployed, here, backup)
        stop_while_streaming(deployed, seen)
    (folder / "elsewhere").mkdir()
    adaptry("restore", backup, here=there, store=folder / "elsewhere" / "store")
    elsewhere = ServedDemo(folder / "elsewhere", database=there)
    with running(elsewhere):
        seen.told_elsewhere, seen.texts_elsewhere = told(elsewhere.client), texts(elsewhere)
    return seen


@contextmanager
def running(server: ServedDemo) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.stop()
        server.client.close()


def as_the_first_release_left_it(url: str, deployed: Deployed) -> None:
    for name in past.DIGESTS:
        keep_demo_adapter(deployed.state / "store", name)
    past.fill_until(past_url(url), past.FIRST)
    for path in (deployed.state, *deployed.state.rglob("*")):
        os.chown(path, deployed.user, deployed.user)


def give_key(deployed: Deployed) -> None:
    """The image asks for one; only who may write to the database can make the first."""
    place = deployed.environment()["ADAPTRY_DATABASE_URL"]
    words = ("key", "create", "root", "--scope", "admin", "--database", place)
    making = deployed.inside("adaptry", *words)
    key = subprocess.run(making, check=True, capture_output=True, text=True).stdout.split()[-1]
    deployed.client.headers["authorization"] = f"Bearer {key}"


def past_url(url: str) -> str:
    return url.replace("sqlite:", "sqlite+aiosqlite:")


def change(client: httpx.Client) -> None:
    """What only today's code can do: a new version, and an alias that moves and says who did it."""
    body = {"source": f"{DEMO}/adapters/rot13"}
    support = "/api/v1/adapters/support"
    new = client.post(f"{support}/versions", json=body)
    assert new.status_code == 200, new.text  # as its third one, which is retired
    assert client.post(f"{support}/versions/3/restore", json={}).status_code == 200
    moved = client.put(f"{support}/aliases/prod", json={"version": 3, "reason": "newer"})
    assert moved.status_code == 200, moved.text


def told(client: httpx.Client) -> list[Any]:
    answers = [client.get(f"/api/v1{page}") for page in PAGES]
    assert all(answer.status_code == 200 for answer in answers)
    return [answer.json() for answer in answers]


def texts(server: ServedDemo) -> dict[str, str]:
    """Greedy answers, by reference."""
    answers = {reference: server.complete(reference).json() for reference in REFERENCES}
    return {reference: answer["choices"][0]["text"] for reference, answer in answers.items()}


def look(deployed: Deployed, seen: Life) -> None:
    server = deployed.server()
    family = [server, *server.children(recursive=True)]
    assert len(family) >= 2, "server and engine"
    names = ("NoNewPrivs", "CapEff", "CapPrm", "CapBnd", "CapAmb", "Groups")
    for process in family:
        seen.uids |= set(process.uids())
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        values = dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", status, re.MULTILINE))
        seen.privileges.add(tuple(values[name] for name in names))
    mounts = Path(f"/proc/{server.pid}/mounts").read_text(encoding="utf-8").splitlines()
    options = [line.split()[3].split(",") for line in mounts if line.split()[1] == "/"]
    seen.root_options = options[-1][0]
    places = [line.split()[1] for line in mounts if line.split()[3].split(",")[0] == "rw"]
    own = ("/proc", "/dev", "/sys", "/tmp", "/var/lib/adaptry", "/var/cache/adaptry")
    assert not [place for place in places if not place.startswith(own)], places


def back_up(deployed: Deployed, url: str, backup: Path) -> None:
    """Of SQLite in the container itself; pg_dump is not in the image."""
    if not deployed.is_container:
        adaptry("backup", backup, here=url, store=deployed.state / "store")
        return
    inside = deployed.inside("adaptry", "db", "backup", "/var/lib/adaptry/backup")
    subprocess.run(inside, check=True)
    (deployed.state / "backup").rename(backup)


def adaptry(what: str, backup: Path, *, here: str, store: Path) -> None:
    program = [str(ROOT / ".venv" / "bin" / "adaptry"), "db", what, str(backup)]
    subprocess.run([*program, "--database", here, "--store", str(store)], check=True)


def stop_while_streaming(deployed: Deployed, seen: Life) -> None:
    server = deployed.server()
    healthy = deployed.is_healthy()
    began = threading.Event()
    body = {
        "model": "support",
        "prompt": prompt_for("hello"),
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
    }

    def read() -> None:
        with deployed.client.stream("POST", "/v1/completions", json=body) as response:
            for line in response.iter_lines():
                seen.streamed.append(line)
                began.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert began.wait(30)
    told_at = time.monotonic()
    server.send_signal(signal.SIGTERM)
    seen.late = first_refusal(deployed)
    reader.join(60)
    assert deployed._process is not None
    seen.exit_code = deployed._process.wait(120)
    seen.stop_seconds = time.monotonic() - told_at
    seen.healthy = healthy, deployed.is_healthy()


def without_key(deployed: Deployed) -> int:
    url = f"{str(deployed.client.base_url).rstrip('/')}/api/v1/adapters"
    return httpx.get(url, trust_env=False, timeout=60).status_code


def first_refusal(deployed: Deployed) -> tuple[int, str, int]:
    """Of a request after the signal: its status, its code, and what /readyz says then."""
    while True:
        late = answered(deployed, lambda: deployed.complete("support"))
        if late.status_code != 200:
            break
        time.sleep(0.01)
    ready = answered(deployed, lambda: deployed.client.get("/readyz")).status_code
    return late.status_code, late.json()["error"]["code"], ready


def answered(deployed: Deployed, ask: Callable[[], httpx.Response]) -> httpx.Response:
    while True:
        try:
            return ask()
        except httpx.TransportError:  # a connection that was lost between two requests
            assert deployed.runs, deployed.last_words()


def test_neither_server_nor_engine_has_any_privilege(life: Life) -> None:
    none = "0000000000000000"
    assert life.uids == {life.user}
    assert life.privileges == {("1", none, none, none, none, "")}


def test_nothing_but_its_own_folders_can_be_written_to(life: Life) -> None:
    assert life.root_options == "ro"


def test_the_image_asks_for_a_key_and_the_service_on_loopback_does_not(life: Life) -> None:
    assert life.without_key == (401 if life.how == "container" else 200)


def test_data_of_the_first_schema_is_served_with_its_weights(life: Life) -> None:
    assert life.texts == {
        reference: TASKS[name].answer("hello") for reference, name in REFERENCES.items()
    }


def test_the_health_check_follows_the_server(life: Life) -> None:
    assert life.healthy == (0, 1)


def test_a_stream_under_way_ends_whole_when_the_server_is_told_to_stop(life: Life) -> None:
    tokens = [line for line in life.streamed if line.startswith("data: {")]
    assert "data: [DONE]" in life.streamed
    assert "error" not in "".join(life.streamed)
    assert json.loads(tokens[-1][6:])["choices"][0]["finish_reason"] == "length"
    assert life.exit_code == 0
    (allowed,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert life.stop_seconds < int(allowed)


def test_a_request_while_it_stops_is_refused_with_the_reason(life: Life) -> None:
    assert life.late == (503, "engine_unavailable", 503)


def test_a_restored_server_says_and_generates_the_same(life: Life) -> None:
    assert life.told_elsewhere == life.told
    assert life.texts_elsewhere == life.texts
