"""HTTP errors of a resolver: the exception that vLLM answers with a status of its own."""

try:
    from vllm.exceptions import GracefulHTTPError
except ImportError:  # vLLM 0.26 answers with the status of this error alone
    from http import HTTPStatus

    from vllm.entrypoints.openai.engine.protocol import GenerationError

    class GracefulHTTPError(GenerationError):  # type: ignore[no-redef,misc]  # as far as it is used
        def __init__(self, message: str, http_status: HTTPStatus) -> None:
            super().__init__(message)
            self.http_status = http_status
            self.status_code = HTTPStatus(http_status)


__all__ = ["GracefulHTTPError"]
