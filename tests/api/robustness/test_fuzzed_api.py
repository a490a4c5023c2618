"""schemathesis finds nothing: no 500, no status, media type or answer that the document has not."""

import re
from pathlib import Path

from fuzz.http_api import fuzz, registry_server

SEED = 20261128
# The key that is used must live on.
NOT_THE_KEYS = ("--exclude-path-regex", "^/api/v1/keys")
# Without a valid key nothing is revealed, whatever the method.
ANY_METHOD = ("--exclude-checks", "unsupported_method,negative_data_rejection")


def test_without_keys(tmp_path: Path, is_long: bool) -> None:
    with registry_server(tmp_path) as server:
        done = fuzz(server.url, examples=10 if is_long else 3, seed=SEED)
    assert done.returncode == 0, done.stdout[-10_000:]
    found = re.search(r"(\d+) generated", done.stdout)
    assert found is not None
    assert int(found[1]) > 2000, "else nothing was asked"


def test_with_a_key_and_without_one(tmp_path: Path, is_long: bool) -> None:
    with registry_server(tmp_path, require_keys=True) as server:
        refused = fuzz(server.url, examples=1, seed=SEED, options=ANY_METHOD)
        header = ("--header", f"Authorization: Bearer {server.key}")
        options = (*header, *NOT_THE_KEYS, "--phases", "examples,fuzzing")
        allowed = fuzz(server.url, examples=10 if is_long else 1, seed=SEED, options=options)
    assert refused.returncode == 0, refused.stdout[-10_000:]
    assert allowed.returncode == 0, allowed.stdout[-10_000:]
