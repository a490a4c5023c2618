"""Which route's body may be how large."""

import pytest

from engine.http.body_limits import body_limits
from engine.settings import EngineSettings
from registry.settings import RegistrySettings
from registry.sources.beside import MAX_TRAINING_BYTES

ENGINE = EngineSettings(max_body_bytes=3000, max_api_body_bytes=200)
REGISTRY = RegistrySettings(max_adapter_bytes=10**9, max_import_bytes=10**12)
FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("method", "path", "kind", "max_bytes", "streamed"),
    [
        ("POST", "/v1/completions", "application/json", 3000, True),
        ("POST", "/generate", "", 3000, True),
        ("POST", "/v1/audio/transcriptions", FORM, 3000, False),
        ("PUT", "/anything", "", 3000, False),
        ("POST", "/api/v1/webhooks", "application/json", 200, False),
        ("PATCH", "/api/v1/adapters/upper", "application/json", 200, False),
        ("POST", "/api/v1/adapters/upper/versions", "application/json", 200, False),
        ("POST", "/api/v1/webhooks", FORM, 200, False),
        ("POST", "/api/v1/import", "application/x-tar", 10**12, True),
    ],
)
def test_each_route_has_its_limit(
    method: str, path: str, kind: str, max_bytes: int, streamed: bool
) -> None:
    headers = [(b"content-type", kind.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    limit = body_limits(ENGINE, REGISTRY)(scope)
    assert (limit.max_bytes, limit.streamed) == (max_bytes, streamed)


def test_an_upload_may_be_as_large_as_an_adapter_and_what_comes_with_it() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/proxied/api/v1/adapters/upper/versions",
        "root_path": "/proxied",
        "headers": [(b"content-type", FORM.encode())],
    }
    limit = body_limits(ENGINE, REGISTRY)(scope)
    assert limit.streamed
    assert 10**9 + MAX_TRAINING_BYTES < limit.max_bytes < 10**9 + MAX_TRAINING_BYTES + 2**24
