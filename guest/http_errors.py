"""HTTP errors of a resolver: the exception that vLLM answers with a status of its own."""

try:
    from vllm.exceptions import GracefulHTTPError
except ImportError:  # vLLM 0.26: there the server answers with FastAPI's
    from http import HTTPStatus

    from fastapi import HTTPException

    class GracefulHTTPError(HTTPException):  # type: ignore[no-redef]  # the same, by another way
        def __init__(self, message: str, http_status: HTTPStatus) -> None:
            super().__init__(http_status, message)
            self.http_status = http_status

        def __str__(self) -> str:
            return str(self.detail)


__all__ = ["GracefulHTTPError"]
