"""HTTP errors of a resolver: the exception that vLLM answers with a status of its own."""

try:
    from vllm.exceptions import GracefulHTTPError
except ImportError:  # vLLM 0.26: there the message is the same, and the status 500
    from http import HTTPStatus

    class GracefulHTTPError(Exception):  # type: ignore[no-redef]  # vLLM's, as far as it is used
        def __init__(self, message: str, http_status: HTTPStatus) -> None:
            super().__init__(message)
            self.http_status = http_status


__all__ = ["GracefulHTTPError"]
