"""`POST /generate`: a client that leaves ends its completion, and is no error."""

import asyncio
from typing import Any

from fastapi import FastAPI

from engine.vllm.generate_api import router


class Completion:
    """vLLM's service, which never comes to an end by itself."""

    def __init__(self) -> None:
        self.was_cancelled = False

    async def create_completion(self, *_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled = True


async def test_a_client_that_leaves_ends_the_completion() -> None:
    app, completion = FastAPI(), Completion()
    app.include_router(router)
    app.state.openai_serving_completion = completion
    messages = [{"type": "http.request", "body": b'{"prompt": "a"}'}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/generate", "headers": []}
    await asyncio.wait_for(app({**scope, "query_string": b""}, receive, send), 30)
    assert completion.was_cancelled
    assert sent[0]["status"] == 200, "not an unexpected error"
