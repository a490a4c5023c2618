"""From the text that names a source to the source itself."""

from collections.abc import Sequence

from registry.net_guard import NetGuard
from registry.sources.buckets import bucket_source
from registry.sources.hub import HubSource, parse_hub_url
from registry.sources.port import Source
from registry.sources.urls import SourceUrl, UrlRules, parse_url
from registry.sources.web import web_source


class RemoteSources:
    """The URLs that may be fetched. Nothing is asked of the network before `fetch`."""

    def __init__(
        self, rules: Sequence[str], guard: NetGuard, *, hub_endpoint: str | None = None
    ) -> None:
        """Raises ValueError for a rule that means nothing."""
        self._rules = UrlRules(rules)
        self._guard = guard
        self._hub_endpoint = hub_endpoint

    def open(self, text: str) -> tuple[SourceUrl, Source]:
        """What may be shown of the URL, and the source.

        Raises InvalidSource, SourceNotAllowed, SourceUnsupported.
        """
        url = parse_url(text)
        self._rules.check(url)
        return url, self._source(url)

    def _source(self, url: SourceUrl) -> Source:
        if url.scheme == "hf":
            return HubSource(parse_hub_url(url), self._guard, self._hub_endpoint)
        if url.scheme in ("s3", "gs"):
            return bucket_source(url, self._guard)
        return web_source(url, self._rules, self._guard)
