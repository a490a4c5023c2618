"""Signatures against the library of the standard itself."""

import base64
import json
import time

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from registry.webhooks.signing import new_secret, signature_headers


@given(st.dictionaries(st.text(), st.text()), st.integers(0, 10**9))
def test_what_we_sign_the_standard_s_library_verifies(content: dict[str, str], n: int) -> None:
    secret = new_secret()
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    body = body.decode("utf-8", "replace").encode()
    headers = signature_headers([secret], f"msg_{n}", int(time.time()), body)
    assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)


def test_the_signature_is_the_one_of_the_specification_s_example() -> None:
    headers = signature_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_with_two_secrets_either_verifies() -> None:
    secrets = [new_secret(), new_secret()]
    headers = signature_headers(secrets, "msg_1", int(time.time()), b"{}")
    for secret in secrets:
        standardwebhooks.Webhook(secret).verify(b"{}", headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new_secret()).verify(b"{}", headers)


def test_a_secret_is_long_and_random() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
