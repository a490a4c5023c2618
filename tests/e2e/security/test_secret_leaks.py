"""Secrets planted wherever they can be given, then looked for wherever something is told.

On a real server whose log says all it can: through what works, what is refused and what fails.
"""

import json
import os
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from registry.auth.key_secret import new_key
from registry.backup.database_dump import POSTGRESQL_FILE
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.adaptry_serve import ROOT, ServedDemo

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

PLACES = (
    "database_password",
    "hf_token",
    "aws_secret",
    "aws_session",
    "admin_key",
    "infer_key",
    "webhook_secret",
    "webhook_path",
    "wrong_key",
    "wrong_scheme",
    "key_in_query",
    "key_in_model",
    "key_in_body",
    "key_in_header",
    "key_in_path",
    "key_in_reason",
    "source_password",
    "source_query",
)

KEPT = {
    "webhook_secret": ["database", "backup"],
    "webhook_path": ["/api/v1/webhooks", "database", "backup"],
}


@dataclass
class Told:
    """All that the server has said, by where."""

    planted: dict[str, str] = field(default_factory=dict)
    said: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)

    def hear(self, where: str, content: bytes | str) -> None:
        told = content.encode() if isinstance(content, str) else content
        self.said[where] = self.said.get(where, b"") + told

    def places_of(self, name: str) -> list[str]:
        return [where for where, told in self.said.items() if self.planted[name].encode() in told]


class Served(ServedDemo):
    """Asks for keys, talks to PostgreSQL with a password, and logs requests."""

    forks = False  # libraries are imported in the environment of the test

    def command(self, port: int) -> list[str]:
        kept = [word for word in super().command(port) if word != "--disable-uvicorn-access-log"]
        return [*kept, "--require-keys", "--uvicorn-log-level", "trace"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Told:
    folder = tmp_path_factory.mktemp("secrets")
    told = Told({name: secrets.token_hex(20) for name in PLACES})
    password = told.planted["database_password"]
    postgres.sql(f"CREATE ROLE audited LOGIN SUPERUSER PASSWORD '{password}'")
    postgres.sql("CREATE DATABASE audited OWNER audited")
    plain = postgres.url("audited")
    host = plain.partition("?")[2]
    url = f"postgresql+asyncpg://audited:{password}@/audited?{host}"
    admin = made_key(url, "root", "admin")
    told.planted["admin_key"] = admin[17:]
    with environment(told), running(Served(folder, database=url), told) as server:
        drive(server, told, admin)
        told.hear("process list", process_list(server.process))
        outage(server, told, postgres)
    told.hear("log", server.log.read_bytes())
    told.hear("database", rows(postgres))
    backup = folder / "backup"
    backed_up = adaptry(
        "db", "backup", str(backup), "--database", url, "--store", f"{folder}/store"
    )
    told.hear("backup command", backed_up)
    told.hear("backup", content(backup, postgres))
    told.hear("wrong database", adaptry("db", "upgrade", "--database", f"{url}&nonsense=1"))
    unreachable = f"postgresql://audited:{password}@127.0.0.1:1/audited"
    told.hear("no database", adaptry("db", "upgrade", "--database", unreachable))
    return told


def rows(postgres: PostgresServer) -> str:
    """All there is in any table."""
    listed = postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname='public'", "audited")
    tables = [name.strip() for name in listed.splitlines() if name.strip()]
    return "".join(
        postgres.sql(f"SELECT to_jsonb(t) FROM {table} t", "audited") for table in tables
    )


def content(backup: Path, postgres: PostgresServer) -> bytes:
    """All names, and all files as they are; the rows, which pg_dump compresses, unpacked too."""
    found = [b"%s\n%s" % (os.fsencode(p), p.read_bytes()) for p in files_in(backup)]
    return b"\n".join([*found, postgres.unpacked(backup / POSTGRESQL_FILE)])


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def made_key(url: str, name: str, scope: str) -> str:
    return adaptry("key", "create", name, "--scope", scope, "--database", url).decode().split()[-1]


def adaptry(*words: str) -> bytes:
    command = [sys.executable, "-m", "adaptry", *words]
    return subprocess.run(
        command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout


@contextmanager
def environment(told: Told) -> Iterator[None]:
    """Where libraries read their secrets from."""
    variables = {
        "HF_TOKEN": told.planted["hf_token"],
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": told.planted["aws_secret"],
        "AWS_SESSION_TOKEN": told.planted["aws_session"],
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "ADAPTRY_SOURCE_URLS": '["s3://", "https://127.0.0.1", "http://127.0.0.1", "hf://"]',
        "ADAPTRY_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "ADAPTRY_INGEST_ATTEMPTS": "1",
        "VLLM_LOGGING_LEVEL": "DEBUG",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextmanager
def running(server: Served, told: Told) -> Iterator[Served]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.client.close()


def drive(server: Served, told: Told, admin: str) -> None:
    client, planted = server.client, told.planted

    def ask(where: str, method: str, path: str, key: str = admin, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
        answer = client.request(method, path, headers=headers, **options)
        told.hear(where, answer.content + repr(answer.headers.raw).encode())
        told.statuses.append(answer.status_code)
        return answer

    made = client.post(
        "/api/v1/keys",
        json={"name": "app", "scopes": ["infer"]},
        headers={"authorization": f"Bearer {admin}"},
    ).json()["key"]
    planted["infer_key"] = made[17:]
    wrong, query, model, body, header, path, reason = (new_key()[0] for _ in range(7))
    names = ("wrong_key", "key_in_query", "key_in_model", "key_in_body", "key_in_header")
    for name, key in zip(
        (*names, "key_in_path", "key_in_reason"),
        (wrong, query, model, body, header, path, reason),
        strict=True,
    ):
        planted[name] = key[17:]
    hook = {"url": f"http://127.0.0.1:1/{planted['webhook_path']}?token={planted['webhook_path']}"}
    webhook = client.post(
        "/api/v1/webhooks", json=hook, headers={"authorization": f"Bearer {admin}"}
    ).json()
    planted["webhook_secret"] = webhook["secret"].removeprefix("whsec_")

    upper = {"source": str(ROOT / "demo" / "adapters" / "upper")}
    assert (
        ask("registered", "POST", "/api/v1/adapters/upper/versions", json=upper).status_code == 201
    )
    prompt = {"model": "upper", "prompt": "hello", "max_tokens": 2}
    assert ask("generated", "POST", "/v1/completions", key=made, json=prompt).status_code == 200
    why = {"version": 1, "reason": f"they sent me {reason}"}
    assert ask("aliased", "PUT", "/api/v1/adapters/upper/aliases/prod", json=why).status_code == 200
    assert (
        ask("pinned", "POST", "/api/v1/cache/pins", json={"reference": "upper"}).status_code == 201
    )
    ask("tested webhook", "POST", f"/api/v1/webhooks/{webhook['id']}/test")

    # where they don't belong
    ask("wrong key", "GET", "/api/v1/adapters", key=wrong)
    ask("wrong scope", "GET", "/api/v1/keys", key=made)
    basic = {"authorization": f"Basic {planted['wrong_scheme']}"}
    ask("wrong scheme", "GET", "/api/v1/adapters", headers=basic)
    ask("in a query", "GET", f"/api/v1/adapters?api_key={query}&limit=x")
    ask("in a query", "GET", f"/v1/models?api_key={query}")
    ask("in model", "POST", "/v1/completions", json={**prompt, "model": model})
    ask("in model", "POST", "/v1/chat/completions", json={"model": model, "messages": []})
    ask("in a body", "POST", "/v1/completions", json={**prompt, "api_key": body})
    ask("in a body", "POST", "/v1/completions", json={**prompt, "max_tokens": body})
    ask("in a body", "PATCH", "/api/v1/adapters/upper", json={"owner": ["x"], body: "x"})
    ask("in a body", "POST", "/api/v1/keys", json={"name": body, "scopes": [body]})
    ask("in a header", "GET", "/api/v1/adapters", headers={"x-api-key": header, "cookie": header})
    ask("not there", "GET", "/api/v1/adapters/nobody")
    ask("in a reference", "GET", "/api/v1/resolve", params={"reference": path})

    # sources that fail
    source, signed = planted["source_password"], planted["source_query"]
    for bad in (
        f"https://user:{source}@127.0.0.1:1/a.tar",
        f"https://127.0.0.1:1/a.tar?X-Amz-Signature={signed}",
        f"http://127.0.0.1:1/a.tar?X-Amz-Signature={signed}",
        f"s3://bucket/{secrets.token_hex(4)}",
        "hf://organisation/nothing",
        f"ftp://user:{source}@host/a",
    ):
        ask("bad source", "POST", "/api/v1/adapters/bad/versions", json={"source": bad})
    server.wait_until(lambda: not unfinished(client, admin), 120)

    # whatever may be looked at
    for page in (
        "/api/v1/events?limit=500",
        "/api/v1/events/export",
        "/api/v1/jobs",
        "/api/v1/keys",
        "/api/v1/webhooks",
        f"/api/v1/webhooks/{webhook['id']}/deliveries",
        "/api/v1/cache/decisions",
        "/api/v1/adapters/upper/versions",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/version",
        "/v1/models",
        "/console/",
    ):
        assert ask(page, "GET", page).status_code == 200, page
    archive = client.get("/api/v1/export", headers={"authorization": f"Bearer {admin}"}).content
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            told.hear("archive", file.read() if file else b"")


def unfinished(client: httpx.Client, key: str) -> list[Any]:
    jobs = client.get("/api/v1/jobs", headers={"authorization": f"Bearer {key}"}).json()["items"]
    return [job for job in jobs if job["finished_at"] is None]


def process_list(server: psutil.Process) -> bytes:
    family = [server, *server.children(recursive=True)]
    lines = (Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in family)
    names = (process.name().encode() for process in family)
    return b"\n".join((*lines, *names))


def outage(server: Served, told: Told, postgres: PostgresServer) -> None:
    """The password is changed below the server, so that it can't come back."""
    postgres.sql("ALTER ROLE audited NOLOGIN")
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename='audited'")
    for page in ("/api/v1/events", "/readyz", "/api/v1/keys"):
        answer = server.client.get(page)
        told.hear("outage", answer.content)
    postgres.sql("ALTER ROLE audited LOGIN")


@pytest.mark.parametrize("name", PLACES)
def test_a_secret_is_printed_nowhere(told: Told, name: str) -> None:
    """A webhook's secret and URL are in the database: messages are signed and sent with them.

    Its URL is shown to a caller that may change it.
    """
    assert len(told.planted[name]) >= 20
    assert told.places_of(name) == KEPT.get(name, [])


def test_the_server_was_driven_through_what_works_and_what_fails(told: Told) -> None:
    """Else there was nothing to be found."""
    assert {200, 201, 202, 400, 401, 403, 404, 422} <= set(told.statuses)
    assert 500 not in told.statuses
    assert b"GET /api/v1/adapters?" in told.said["log"], "the log says what was asked"
    assert b"DEBUG" in told.said["log"]
    assert b"adaptry" in told.said["process list"]
    assert b"key.created" in told.said["/api/v1/events/export"]
    jobs = json.loads(told.said["/api/v1/jobs"].partition(b"[(b'")[0])["items"]
    assert {job["state"] for job in jobs} == {"failed"}
    assert b"COPY public.webhook" in told.said["backup"]
    assert len(told.said) > 25
