"""A real server that asks for keys: with the OpenAI SDK, our client, the commands and a scraper."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from adaptry.cli import main
from adaptry.client import ApiError
from tests.support.servers.adaptry_serve import ROOT
from tests.support.servers.adaptry_serve_with_keys import Keyed, serving_with_keys

pytestmark = [pytest.mark.servers("forked")]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with serving_with_keys(tmp_path_factory.mktemp("keys")) as keyed:
        yield keyed


def test_one_key_for_each_job(keyed: Keyed) -> None:
    app, ci, prometheus = (
        keyed.key(name, scope)
        for name, scope in (("app", "infer"), ("ci", "publish"), ("prometheus", "operate"))
    )
    with keyed.client(ci) as client:
        client.versions.register("upper", str(ROOT / "demo" / "adapters" / "upper"))
    with keyed.openai(app) as client_of_openai:
        answer = client_of_openai.completions.create(
            model="upper", prompt="hello=", max_tokens=16, temperature=0
        )
        assert answer.choices[0].text == "HELLO"
        assert "upper" in {model.id for model in client_of_openai.models.list()}
    bearer = {"authorization": f"Bearer {prometheus}"}
    metrics = httpx.get(f"{keyed.url}/metrics", headers=bearer, timeout=60)
    assert 'adaptry_requests_total{adapter="upper",outcome="completed"} 1.0' in metrics.text
    with keyed.client(prometheus) as client:
        assert [r.reference for r in client.cache.show().host] == ["upper:1"]
        created = [e for e in client.events.list() if e.kind == "version.registered"]
        assert [event.actor for event in created] == ["ci"]


def test_a_request_without_a_good_key_is_refused_with_the_reason(keyed: Keyed) -> None:
    with keyed.openai("sk-nothing") as stranger, pytest.raises(openai.AuthenticationError) as told:
        stranger.models.list()
    assert told.value.code == "invalid_key"
    publisher = keyed.key("publisher", "publish")
    with keyed.openai(publisher) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.completions.create(model="upper", prompt="hello=")
    assert refused.value.code == "scope_missing"
    with keyed.client() as client, pytest.raises(ApiError) as missing:
        list(client.adapters.list())
    assert (missing.value.status, missing.value.code) == (401, "key_required")
    for path in ("/metrics", "/api/v1/cache", "/v1/models", "/api/v1/adapters", "/server_info"):
        assert httpx.get(f"{keyed.url}{path}", timeout=60).status_code == 401, path
    for path in ("/healthz", "/readyz", "/console/", "/docs"):
        assert httpx.get(f"{keyed.url}{path}", timeout=60).status_code == 200, path


def test_commands_take_the_key_from_the_environment(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapter", "list", "--server", keyed.url]) == 1
    assert "[key_required]" in capsys.readouterr().err
    monkeypatch.setenv("ADAPTRY_API_KEY", keyed.root)
    assert main(["key", "create", "short", "--scope", "infer", "--server", keyed.url]) == 0
    key = capsys.readouterr().out.strip()
    assert main(["key", "list", "--server", keyed.url]) == 0
    listed = capsys.readouterr().out
    assert "short" in listed
    assert key not in listed
    assert main(["key", "revoke", "short", "--server", keyed.url]) == 0
    with keyed.openai(key) as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_no_key_is_in_any_file_of_the_server(keyed: Keyed) -> None:
    """Its log, its database with what is only in the write-ahead log yet, its store, its state."""
    key = keyed.key("logged", "admin")
    with keyed.client(key) as client:
        list(client.adapters.list())
        rotated = client.keys.rotate("logged", keep_hours=0)
        with keyed.client("ak-" + "x" * 40) as stranger, pytest.raises(ApiError):
            list(stranger.adapters.list())
    files = [path for path in keyed.served.folder.rglob("*") if path.is_file()]
    assert {"registry.db", "registry.db-wal", "server.log"} <= {path.name for path in files}
    secrets = {each.rpartition("_")[2].encode() for each in (key, rotated.key, keyed.root)}
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path


# ---- tenants -------------------------------------------------------------------------------------

HIDDEN, NOBODY = "acme~zebra-7f3a", "acme~quagga-1b2c"
ASKED: dict[str, dict[str, object]] = {
    "/v1/completions": {"prompt": "hello=", "max_tokens": 4},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/generate": {"prompt": "hello=", "max_tokens": 4},
    "/generate_stream": {"inputs": "hello="},
    "/tokenize": {"prompt": "hello"},
    "/v1/completions/render": {"prompt": "hello="},
}
STEERED = (
    ("POST", "/api/v1/cache/pins", True),
    ("DELETE", "/api/v1/cache/pins/{}", False),
    ("POST", "/api/v1/cache/prefetch", True),
    ("POST", "/api/v1/cache/evict", True),
    ("GET", "/api/v1/cache/why/{}", False),
    ("GET", "/api/v1/cache/decisions?adapter={}", False),
    ("GET", "/api/v1/cache/stream?adapter={}", False),
    ("POST", "/api/v1/adapters/{}/versions/1/probe", False),
)
SEEN = ("/v1/models", "/api/v1/cache", "/api/v1/cache/pins", "/api/v1/cache/decisions?limit=1000")


@pytest.fixture(scope="module")
def tenants(keyed: Keyed) -> Iterator[dict[str, httpx.Client]]:
    """An adapter of `acme` that is in use and pinned, and everybody's key for everything."""
    with keyed.client(keyed.root) as root:
        for tenant in ("acme", "other"):
            root.tenants.create(tenant)
        root.versions.register(HIDDEN, str(ROOT / "demo" / "adapters" / "upper"))
        root.cache.pin(HIDDEN)
    clients = {}
    for tenant in ("acme", "other"):
        headers = {"authorization": f"Bearer {keyed.key(f'{tenant}~boss', 'admin')}"}
        clients[tenant] = httpx.Client(base_url=keyed.url, headers=headers, timeout=60)
    answer = clients["acme"].post("/v1/completions", json={"model": HIDDEN, "prompt": "hello="})
    assert answer.json()["choices"][0]["text"].startswith("HELLO"), answer.text
    yield clients
    for client in clients.values():
        client.close()


def _named(adapter: str) -> dict[str, object]:
    """As OpenAI's routes and TGI's read it."""
    return {"model": adapter, "parameters": {"adapter_id": adapter}}


def test_what_a_tenant_may_not_see_is_answered_as_what_does_not_exist(
    tenants: dict[str, httpx.Client],
) -> None:
    def told(method: str, path: str, adapter: str, body: object) -> tuple[int, str]:
        answer = tenants["other"].request(method, path.format(adapter), json=body)
        return answer.status_code, answer.text.replace(adapter, "")

    for path, body in ASKED.items():
        hidden, nobody = (
            told("POST", path, adapter, {**body, **_named(adapter)}) for adapter in (HIDDEN, NOBODY)
        )
        assert hidden == nobody, path
        assert hidden[0] == 404, path
        assert "zebra" not in hidden[1], path
    for method, path, named in STEERED:
        hidden, nobody = (
            told(method, path, adapter, {"reference": adapter} if named else None)
            for adapter in (HIDDEN, NOBODY)
        )
        assert hidden == nobody, path
        assert hidden[0] == 404, (path, hidden)


def test_a_tenant_is_shown_its_own_and_granted_adapters_only(
    keyed: Keyed, tenants: dict[str, httpx.Client]
) -> None:
    for path in SEEN:
        assert "zebra" in tenants["acme"].get(path).text, path
        assert "zebra" not in tenants["other"].get(path).text, path
    assert tenants["acme"].get("/metrics").json()["code"] == "platform_only"
    assert tenants["other"].get("/api/v1/cache").json()["slots_by_state"]["pinned"] == 1
    with keyed.client(keyed.root) as root:
        root.tenants.grant(HIDDEN, "other")
    body = {"model": HIDDEN, "prompt": "hello=", "max_tokens": 16, "temperature": 0}
    answer = tenants["other"].post("/v1/completions", json=body)
    assert answer.json()["choices"][0]["text"] == "HELLO", answer.text
    assert all("zebra" in tenants["other"].get(path).text for path in SEEN)
    refused = tenants["other"].post("/api/v1/cache/evict", json={"reference": HIDDEN})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_owner")
    with keyed.client(keyed.root) as root:
        root.tenants.revoke(HIDDEN, "other")
    assert tenants["other"].post("/v1/completions", json=body).status_code == 404
