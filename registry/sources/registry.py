"""Source registry: opens the source that a URL names, if the rules allow it."""

from collections.abc import Sequence

from registry.errors import SourceNotAllowed
from registry.sources.base import Source
from registry.sources.egress_guard import EgressGuard
from registry.sources.extras import import_extra
from registry.sources.http import http_source
from registry.sources.huggingface import HubSource, parse_hub_url
from registry.sources.object_storage import bucket_source
from registry.sources.registries.mlflow import mlflow_source
from registry.sources.urls import SourceUrl, UrlRules, parse_url

_BUCKETS = frozenset({"s3", "gs", "azure"})
_WITH_EXTRAS = {"azure": "registry.sources.azure_blobs", "oci": "registry.sources.registries.oci"}


class RemoteSources:
    """Opens allowed URLs. There is no network access before `fetch`."""

    def __init__(
        self,
        rules: Sequence[str],
        guard: EgressGuard,
        *,
        hub_endpoint: str | None = None,
        mlflow_uri: str | None = None,
        plain_registries: Sequence[str] = (),
    ) -> None:
        """`mlflow_uri` None means `MLFLOW_TRACKING_URI`. `plain_registries`: those of oci:// that
        are read without TLS. Raises ValueError for an invalid rule.
        """
        self._rules = UrlRules(rules)
        self._guard = guard
        self._hub_endpoint = hub_endpoint
        self._mlflow_uri = mlflow_uri
        self._plain_registries = frozenset(plain_registries)

    def open(self, text: str, *, within: str | None = None) -> tuple[SourceUrl, Source]:
        """The URL without secrets, and its source. A tenant may only use its own part of a bucket.

        Raises InvalidSource, SourceNotAllowed, SourceUnsupported.
        """
        url = parse_url(text)
        self._rules.check(url)
        if within is not None and url.scheme in _BUCKETS and not url.path.startswith(f"/{within}/"):
            raise SourceNotAllowed(f"a tenant's sources in a bucket must be below /{within}/")
        return url, self._source(url)

    def _source(self, url: SourceUrl) -> Source:
        if url.scheme == "hf":
            return HubSource(parse_hub_url(url), self._guard, self._hub_endpoint)
        if url.scheme == "mlflow":
            return mlflow_source(url, self._guard, self._mlflow_uri)
        if url.scheme in _WITH_EXTRAS:
            return self._with_extra(url)
        if url.scheme in _BUCKETS:
            return bucket_source(url, self._guard)
        return http_source(url, self._rules, self._guard)

    def _with_extra(self, url: SourceUrl) -> Source:
        """Its module imports what only an extra of the same name installs."""
        module = import_extra(_WITH_EXTRAS[url.scheme], url.scheme, url.scheme)
        source: Source
        if url.scheme == "oci":
            source = module.OciSource(url, self._guard, self._plain_registries)
        else:
            source = module.open_source(url, self._guard)
        return source
