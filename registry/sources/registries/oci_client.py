"""OCI registry client: oras over guarded connections, with bounded answers and without retries.

oras finds the credentials of `docker login` and answers a registry's demand for a token. All that
it sends goes through a session whose connections lead to allowed addresses only.
"""

import hashlib
import json
import re
import socket
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import oras.auth
import oras.client  # first: oras.provider alone is a circular import
import oras.container
import oras.provider
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import create_connection

from registry.errors import InvalidRedirect, InvalidSource, SourceDenied, SourceUnavailable
from registry.sources.egress_guard import EgressGuard
from registry.sources.http_client import CONNECT_SECONDS, READ_SECONDS
from registry.sources.open_sockets import OpenSockets
from registry.sources.quarantine import CHUNK_BYTES
from registry.sources.registries.credential_helper import ask_helper
from registry.sources.urls import SourceUrl

MAX_MANIFEST_BYTES = 4 * 2**20  # what the specification lets registries refuse
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_BAD_REQUEST = 400
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?")
_PORT = re.compile(r":[0-9]+$")
_PORTS = range(1, 2**16)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")


class OciClient:
    """Reads one artifact. For use in one thread."""

    def __init__(
        self,
        url: SourceUrl,
        guard: EgressGuard,
        plain_http: Collection[str] = (),
        sockets: OpenSockets | None = None,
    ) -> None:
        """`plain_http`: registries without TLS, beside those on loopback. Raises InvalidSource."""
        found = _PATH.fullmatch(url.path)
        if found is None or not _PLACE.fullmatch(url.place):
            raise InvalidSource("oci:// must be followed by REGISTRY/REPOSITORY:TAG or @sha256:…")
        if int(url.place.rpartition(":")[2] if _PORT.search(url.place) else 1) not in _PORTS:
            raise InvalidSource(f"oci://{url.place} names a port that is none")
        is_plain = url.place in plain_http or bool(_LOOPBACK.fullmatch(url.place))
        self._container = oras.container.Container("any", registry=url.place)
        self._container.namespace, self._container.repository = None, found["repository"]
        self._container.tag = found["tag"] or "latest"
        self._container.digest = found["digest"]
        self._registry = _Registry(hostname=url.place, insecure=is_plain)
        self._registry.session = self._registry.auth.session = _session(
            guard, sockets or OpenSockets(), is_plain
        )
        self._shown = str(url)

    def __enter__(self) -> "OciClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.session.close()

    def manifest(self) -> tuple[dict[str, Any], str]:
        """The manifest and its digest, which is checked. Raises HTTPError, SourceUnavailable."""
        self._sign_in()
        url = f"{self._registry.prefix}://{self._container.manifest_url()}"
        headers = {"Accept": ", ".join(_MANIFESTS), "Accept-Encoding": "identity"}
        with self._registry.do_request(url, "GET", headers=headers, stream=True) as response:
            response.raise_for_status()
            content = _read_bounded(response)
            promised = response.headers.get("Docker-Content-Digest", "")
        if len(content) > MAX_MANIFEST_BYTES:
            raise InvalidSource(f"{self._shown}: its manifest is larger than a registry may take")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for expected in (self._container.digest, promised):
            if expected and expected.startswith("sha256:") and expected != digest:
                raise SourceUnavailable(f"{self._shown}: its manifest is not what its digest says")
        try:
            manifest = json.loads(content)
        except (ValueError, RecursionError):
            manifest = None
        if not isinstance(manifest, dict):
            raise InvalidSource(f"{self._shown}: its manifest is no JSON object")
        return manifest, digest

    def _sign_in(self) -> None:
        """With what `docker login` stored, if anything: a token, or the password where that is all
        that the registry knows.
        """
        registry, auth = self._registry, self._registry.auth
        auth._get_auth_from_creds_store = ask_helper
        auth.load_configs(self._container)
        login = getattr(auth, "_basic_auth", None)
        if login is None:
            return
        registry.session.login_for = self._container.registry.lower()
        first = registry.session.get(f"{registry.prefix}://{self._container.registry}/v2/")
        if first.headers.get("Www-Authenticate", "").lower().startswith("basic"):
            registry.auth = oras.auth.get_auth_backend("basic", registry.session)
            registry.auth._basic_auth = login

    def blob(self, digest: str) -> Iterator[bytes]:
        """As it is sent; the caller checks size and digest. Raises HTTPError."""
        with self._registry.get_blob(self._container, digest, stream=True) as response:
            response.raise_for_status()
            yield from response.raw.stream(CHUNK_BYTES, decode_content=False)


def _read_bounded(response: Any) -> bytes:
    """Its body, or more than `MAX_MANIFEST_BYTES` of it. Raises HTTPError if it is cut off."""
    content = b""
    for chunk in response.raw.stream(MAX_MANIFEST_BYTES + 1, decode_content=False):
        content += chunk
        if len(content) > MAX_MANIFEST_BYTES:
            break
    return content


class _Registry(oras.provider.Registry):  # type: ignore[misc]  # oras has no types
    def do_request(self, *args: Any, **kwargs: Any) -> Any:
        """Without retries, which would sleep for a minute: the job is retried."""
        try:
            return oras.provider.Registry.do_request.__wrapped__(self, *args, **kwargs)
        except (AttributeError, RecursionError) as error:  # oras, at a demand or token that is none
            raise SourceDenied(
                f"{self.hostname} demands credentials in a way that can't be answered"
            ) from error


class _Session(requests.Session):
    """Answers in memory, such as a token, are bounded; nothing is read from the environment.

    `login_for`: the registry that alone may say where its login is to be sent.
    """

    login_for: str | None = None

    def send(self, request: Any, **kwargs: Any) -> Any:
        is_stream = kwargs.get("stream")
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        response = super().send(request, **{**kwargs, "stream": True, "timeout": timeout})
        if not is_stream or response.status_code >= _BAD_REQUEST:
            content = _read_bounded(response)
            if len(content) > MAX_MANIFEST_BYTES:
                response.close()
                raise SourceUnavailable("the registry answers with more than a token")
            if self.login_for not in (None, urlsplit(response.url).netloc):
                response.headers.pop("Www-Authenticate", None)
            response._content = content
            response._content_consumed = True
            response.close()
        return response


def _session(guard: EgressGuard, sockets: OpenSockets, is_plain: bool) -> requests.Session:
    session = _Session()
    session.trust_env = False  # no proxy, which would bypass the guard, and no .netrc
    session.headers["Accept-Encoding"] = "identity"
    session.mount("https://", _GuardedAdapter(guard, sockets))
    session.mount("http://", _GuardedAdapter(guard, sockets) if is_plain else _NoAdapter())
    return session


class _NoAdapter(HTTPAdapter):
    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        raise InvalidSource("the registry leads to a URL without TLS (ADAPTRY_PLAIN_REGISTRIES)")


class _GuardedAdapter(HTTPAdapter):
    """Connects to checked addresses only; the certificate is still checked for the host's name."""

    def __init__(self, guard: EgressGuard, sockets: OpenSockets) -> None:
        self._guard = guard
        self._sockets = sockets
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._guard, self._sockets)

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Raises InvalidRedirect."""
        response = super().send(request, *args, **kwargs)
        if response.is_redirect:
            response.close()
            response._content = b""  # requests would read it, however much it is
            target = response.headers["Location"]
            if not target or urlsplit(urljoin(request.url, target)).scheme not in ("http", "https"):
                raise InvalidRedirect("the registry leads to no http or https URL")
        return response


def _pools(guard: EgressGuard, sockets: OpenSockets) -> dict[str, type[HTTPConnectionPool]]:
    def connect(connection: HTTPConnection) -> socket.socket:
        port = connection.port or connection.default_port
        error: OSError | None = None
        for address in guard.addresses(connection.host, port):
            try:
                return create_connection(
                    (address, port), connection.timeout, socket_options=connection.socket_options
                )
            except OSError as caught:
                error = caught
        raise NewConnectionError(connection, f"no connection: {error}") from error

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Tls(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
