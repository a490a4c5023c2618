"""Credential helper of docker's: a program that knows the logins of OCI registries."""

import json
import subprocess

from oras.auth.utils import get_basic_auth

from registry.errors import SourceUnavailable

HELPER_SECONDS = 20.0


def ask_helper(suffix: str, hostname: str) -> str | None:
    """As oras asks a credential helper of docker's, which it would wait for without limit.

    Raises SourceUnavailable.
    """
    helper = f"docker-credential-{suffix}"
    try:
        done = subprocess.run(
            [helper, "get"],
            check=False,
            input=hostname.encode(),
            capture_output=True,
            timeout=HELPER_SECONDS,
        )
        if done.returncode:
            return None  # it knows no login for this registry
        login = json.loads(done.stdout)
        return str(get_basic_auth(login["Username"], login["Secret"]))
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired:
        why = f"no answer in {HELPER_SECONDS:.0f} s"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        why = "it can't be run, or answers with no login"
    raise SourceUnavailable(f"{hostname}: {helper} fails: {why}") from None
