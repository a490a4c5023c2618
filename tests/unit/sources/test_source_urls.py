"""Which URLs are read, what is shown of them, and which of them the settings allow."""

import pytest

from registry.errors import InvalidSource, SourceNotAllowed, SourceUnsupported
from registry.settings import RegistrySettings
from registry.sources.egress_guard import EgressGuard
from registry.sources.huggingface import parse_hub_url
from registry.sources.registry import RemoteSources
from registry.sources.urls import UrlRules, is_url, parse_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.com/a/b", "https://example.com/a/b"),
        ("https://EXAMPLE.com:443/a", "https://example.com/a"),
        ("http://example.com:8080/a", "http://example.com:8080/a"),
        ("https://example.com/a.tar?X-Amz-Signature=secret", "https://example.com/a.tar"),
        ("https://[2606:4700::1]:444/a", "https://[2606:4700::1]:444/a"),
        ("s3://bucket/team/support", "s3://bucket/team/support"),
        ("gs://bucket/a.tgz", "gs://bucket/a.tgz"),
        ("hf://org/repo@main/sub/folder", "hf://org/repo@main/sub/folder"),
    ],
)
def test_a_url_is_shown_without_its_query(text: str, shown: str) -> None:
    assert str(parse_url(text)) == shown
    assert is_url(text)


@pytest.mark.parametrize("text", ["/srv/adapters/a", "team/a", "a", "C:/x", "hf:/a/b", "..", ""])
def test_a_path_is_no_url(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gopher://127.0.0.1:6379/x",
        "HTTPS://example.com/a",
        "://a",
        "https://",
        "https:///a",
        "https://user:password@example.com/a",
        "https://token@example.com/a",
        "https://example.com:99999/a",
        "https://example.com:port/a",
        "https://[::1/a",
        "https://example.com/a/../../b",
        "https://example.com/a/%2e%2e/b",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "https://example.com/\0",
        "https://example.com\\@127.0.0.1/a",
        "https://example.com/\ud800",
        "s3://",
        "s3:///key",
        "s3://bucket/a/../b",
    ],
    ids=ascii,
)
def test_what_is_no_source_is_refused(text: str) -> None:
    with pytest.raises(InvalidSource) as caught:
        RemoteSources(("https://", "http://", "s3://"), EgressGuard()).open(text)
    caught.value.detail.encode()


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        (
            "https://example.com",
            ["https://example.com/a", "https://example.com:443/a", "https://EXAMPLE.COM/a"],
            [
                "http://example.com/a",
                "https://example.com:8443/a",
                "https://www.example.com/a",
                "https://example.com.evil.org/a",
                "https://evilexample.com/a",
            ],
        ),
        (
            "https://*.example.com/models",
            ["https://a.example.com/models/x", "https://a.b.example.com/models"],
            [
                "https://example.com/models/x",
                "https://a.example.com/modelsx",
                "https://a.example.com/x",
                "https://evilexample.com/models/x",
            ],
        ),
        (
            "http://10.0.0.1:8080",
            ["http://10.0.0.1:8080/a"],
            ["http://10.0.0.1/a", "http://10.0.0.1:8081/a"],
        ),
        ("https://", ["https://anywhere.org/x"], ["http://anywhere.org/x"]),
        (
            "s3://bucket/team/",
            ["s3://bucket/team/a", "s3://bucket/team"],
            ["s3://bucket/teams/a", "s3://bucket2/team/a", "gs://bucket/team/a", "s3://bucket/a"],
        ),
        ("hf://", ["hf://org/repo"], ["https://huggingface.co/org/repo"]),
        ("hf://org", ["hf://org/repo", "hf://org/repo@x/y"], ["hf://other/repo", "hf://orga/repo"]),
        ("hf://org/repo", ["hf://org/repo"], ["hf://org/other", "hf://org/repository"]),
    ],
)
def test_a_rule_allows_what_it_says(rule: str, allowed: list[str], refused: list[str]) -> None:
    rules = UrlRules([rule])
    for text in allowed:
        rules.check(parse_url(text))
    for text in refused:
        with pytest.raises(SourceNotAllowed):
            rules.check(parse_url(text))


def test_a_rule_for_a_repository_is_for_each_of_its_revisions_and_folders() -> None:
    rules = UrlRules(["hf://org/repo"])
    for text in ("hf://org/repo@main", "hf://org/repo@v1/folder", "hf://org/repo/folder"):
        rules.check(parse_url(text))
    with pytest.raises(SourceNotAllowed):
        rules.check(parse_url("hf://org/repo2@main"))


def test_without_rules_nothing_is_allowed() -> None:
    with pytest.raises(SourceNotAllowed, match="ADAPTRY_SOURCE_URLS"):
        UrlRules([]).check(parse_url("https://example.com/a"))


@pytest.mark.parametrize("rule", ["example.com", "ftp://x", "https://u:p@x", "", "s3:bucket"])
def test_a_rule_that_means_nothing_stops_the_start(rule: str) -> None:
    with pytest.raises(ValueError, match="source_urls"):
        RegistrySettings(source_urls=(rule,))


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        ("https://*", "https://"),
        ("https://*/models", "https://"),
        ("s3://*", "s3://"),
        ("https://host.*", r"https://\*\.example\.com"),
        ("https://*host.com", r"https://\*\.example\.com"),
    ],
)
def test_a_rule_that_matches_nothing_stops_the_start_with_the_right_spelling(
    rule: str, right: str
) -> None:
    with pytest.raises(ValueError, match=f"matches nothing: .*{right}"):
        RegistrySettings(source_urls=(rule,))


def test_by_default_only_the_hub_is_allowed() -> None:
    rules = UrlRules(RegistrySettings().source_urls)
    rules.check(parse_url("hf://org/repo"))
    for text in ("https://example.com/a", "http://127.0.0.1/a", "s3://bucket/a", "gs://bucket/a"):
        with pytest.raises(SourceNotAllowed):
            rules.check(parse_url(text))


@pytest.mark.parametrize(
    ("text", "repository", "revision", "folder"),
    [
        ("hf://org/repo", "org/repo", None, ""),
        ("hf://org/repo/", "org/repo", None, ""),
        ("hf://org/repo@main", "org/repo", "main", ""),
        ("hf://org/repo@v1.0/a/b/", "org/repo", "v1.0", "a/b"),
        ("hf://org/repo@refs%2Fpr%2F3", "org/repo", "refs/pr/3", ""),
        ("hf://org/repo/sub", "org/repo", None, "sub"),
    ],
)
def test_a_hub_url_names_repository_revision_and_folder(
    text: str, repository: str, revision: str | None, folder: str
) -> None:
    where = parse_hub_url(parse_url(text))
    assert (where.repository, where.revision, where.folder) == (repository, revision, folder)


@pytest.mark.parametrize(
    "text",
    ["hf://org", "hf://org/", "hf://org/repo@", "hf://o..o/r", "hf://org/re--po", "hf://o/r:x"],
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    with pytest.raises(InvalidSource):
        RemoteSources(("hf://",), EgressGuard()).open(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mlflow:/Support%20Bot/3", "mlflow:/Support%20Bot/3"),
        ("mlflow:/bot@champion", "mlflow:/bot@champion"),
        ("mlflow://bot/3", "mlflow:/bot/3"),
    ],
)
def test_a_version_of_mlflow_is_written_with_one_slash(text: str, shown: str) -> None:
    assert is_url(text)
    assert str(parse_url(text)) == shown


@pytest.mark.parametrize(
    "text", ["mlflow:/", "mlflow:/bot/x", "mlflow:/bot/0", "mlflow:/bot/1/2", "mlflow:/bot@", "a b"]
)
def test_what_names_no_version_of_mlflow_is_invalid(text: str) -> None:
    with pytest.raises(InvalidSource):
        parse_url(text)


def test_a_model_of_mlflow_must_be_allowed_and_be_one_version() -> None:
    for rule in ("mlflow:/", "mlflow:/bot", "mlflow://"):
        sources = RemoteSources((rule,), EgressGuard(), mlflow_uri="http://mlflow:5000")
        sources.open("mlflow:/bot@champion")
        with pytest.raises(InvalidSource):
            sources.open("mlflow:/bot")
    with pytest.raises(SourceNotAllowed, match=r"^mlflow:/bot2 is not among"):
        RemoteSources(("mlflow:/bot",), EgressGuard()).open("mlflow:/bot2/1")


@pytest.mark.parametrize("server", [None, "file:///mlruns", "sqlite:///mlflow.db"])
def test_without_a_server_of_mlflow_it_is_unsupported(
    monkeypatch: pytest.MonkeyPatch, server: str | None
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with pytest.raises(SourceUnsupported, match="ADAPTRY_MLFLOW_TRACKING_URI"):
        RemoteSources(("mlflow:/",), EgressGuard()).open("mlflow:/bot/1")
