"""MLflow access: the URL of a server, and the credentials that MLflow's own client would use."""

import os
from urllib.parse import urlsplit

import httpx

from registry.sources.registries.mlflow_answers import MlflowError


def server_url(text: str) -> str:
    """Raises MlflowError, which does not repeat it: it may hold a password."""
    text = text.rstrip("/")
    try:
        urlsplit(text)  # some hosts it refuses, and httpx does not
        url = httpx.URL(text)
    except (ValueError, httpx.InvalidURL):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise MlflowError("this is no URL of an MLflow server, such as https://mlflow.example.com")
    return text


def without_password(url: str) -> str:
    """To be shown: what stands before the host is for httpx alone."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def basic_auth() -> httpx.BasicAuth | None:
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    return httpx.BasicAuth(user, password) if user else None


def bearer() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}
