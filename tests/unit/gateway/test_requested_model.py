"""The requested model: read from where vLLM's route reads it, with one parse of the body."""

import json

import pytest
from starlette.types import Scope

from engine.gateway.request_body import RequestBody
from engine.gateway.requested_model import SAGEMAKER_HEADER, RequestedModel, read_requested_model
from engine.gateway.unknown_model import as_model_error
from registry.errors import VersionUnavailable
from registry.http.headers import is_form

JSON = b"application/json"


def scope(path: str = "/v1/completions", content_type: bytes = JSON, **headers: bytes) -> Scope:
    more = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return {"type": "http", "path": path, "headers": [(b"content-type", content_type), *more]}


def read(scope: Scope, body: bytes) -> RequestedModel:
    return read_requested_model(scope, RequestBody(body, has_parts=is_form(scope)))


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "upper", "prompt": "x"}', "upper"),
        (b'{"prompt": {"model": "inner"}}', None),
        (b'{"model": "first", "model": "last"}', "last"),
        (b'{"model": "\\u0075pper"}', "upper"),
        (b'{"model": "upper", "temperature": NaN}', "upper"),
        (b'{"model": "upper", "temperature": -Infinity}', "upper"),
        (b'{"model": 7}', None),
        (b'{"model": ["upper"]}', None),
        (b'{"model": ""}', None),
        (b'{"model": null}', None),
        (b'["upper"]', None),
        (b'"upper"', None),
        (b"{", None),
        (b"", None),
        (b'{"model": "upper"} {}', None),
    ],
)
def test_the_model_of_a_json_body_is_what_pythons_parser_sees(
    body: bytes, model: str | None
) -> None:
    assert read(scope(), body).model == model
    try:
        content = json.loads(body)
    except ValueError:
        return
    seen = content.get("model") if isinstance(content, dict) else None
    assert model == (seen if isinstance(seen, str) and seen else None)


@pytest.mark.parametrize("root", ["", "/llm"])
def test_a_fan_out_has_no_model_of_its_own(root: str) -> None:
    there: Scope = {**scope(f"{root}/v1/fanout"), "root_path": root}
    assert read(there, b'{"model": "upper", "models": ["lower"], "user": "u"}').model is None


def form(**fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = (
        '--b\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n'
        "Content-Type: audio/wav\r\n\r\nRIFF\r\n"
    )
    return "".join([file, *parts, "--b--\r\n"]).encode()


def test_the_model_of_a_form_is_its_field_and_no_file() -> None:
    there = scope("/v1/audio/transcriptions", b"multipart/form-data; boundary=b")
    assert read(there, form(model="whisper-de", language="de")).model == "whisper-de"
    assert read(there, form(language="de")).model is None
    assert read(there, form(model="x" * 5000)).model is None
    for broken in (b"", b"--b", b"--c\r\n\r\n", form(model="x")[:-20]):
        assert read(there, broken).model in (None, "x")


def test_sagemakers_header_comes_before_the_body() -> None:
    header = {"x_amzn_sagemaker_adapter_identifier": b"upper"}
    there = scope("/invocations", **header)
    assert read(there, b'{"prompt": "x"}').model == "upper"
    assert read(there, b'{"model": "other"}').model == "upper"
    elsewhere = scope("/v1/completions", **header)
    assert read(elsewhere, b'{"model": "other"}').model == "other"


def test_its_route_reads_the_header_only_so_the_body_is_put_there() -> None:
    """vLLM's decorator overwrites the body's `model` with the header, or with null."""
    there = scope("/invocations")
    named = read(there, b'{"model": "upper"}')
    name, passed_on = named.for_route(there, "upper:1")
    assert name == "upper"
    assert dict(passed_on["headers"])[SAGEMAKER_HEADER] == b"upper"
    assert dict(there["headers"]).get(SAGEMAKER_HEADER) is None, "the caller's own is untouched"
    elsewhere = scope()
    named = read(elsewhere, b'{"model": "upper"}')
    assert named.for_route(elsewhere, "upper:1") == ("upper", elsewhere)


def test_a_name_that_no_header_can_hold_is_read_and_replaced_by_its_version() -> None:
    header = {"x_amzn_sagemaker_adapter_identifier": "größe/七".encode()}
    there = scope("/invocations", **header)
    named = read(there, b"{}")
    assert named.model == "größe/七"
    name, passed_on = named.for_route(there, "upper:1")
    assert name == "upper:1"
    handed_on = [value for header, value in passed_on["headers"] if header == SAGEMAKER_HEADER]
    assert handed_on == [b"upper:1"]
    latin = {"x_amzn_sagemaker_adapter_identifier": "größe".encode("latin-1")}
    assert read(scope("/invocations", **latin), b"{}").model == "größe"


def test_the_user_is_the_header_before_openais_field_before_a_new_one() -> None:
    body = b'{"model": "upper", "user": "ann"}'
    assert read(scope(x_adaptry_user=b"bob"), body).user == "bob"
    assert read(scope(), body).user == "ann"
    users = {read(scope(), b'{"user": 7}').draw() for _ in range(3)}
    assert len(users) == 3


def test_a_version_that_is_gone_is_404_to_openais_clients_and_stays_410_to_others() -> None:
    """The registry's error may be kept, and answer the next request for it."""
    kept = VersionUnavailable("support:3", "retired", "replaced")
    shown = as_model_error(kept, "support:3")
    assert (shown.status, shown.code, shown.detail) == (404, "version_retired", kept.detail)
    assert kept.status == 410
