"""Lazy routes: each is made for the first request to its path.

A test asks for a few of fifty, and FastAPI needs longer to make all of them than for the test.
What makes them all: the OpenAPI document, and every server in a process of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette._utils import get_route_path
from starlette.routing import BaseRoute, Match, compile_path
from starlette.types import Receive, Scope, Send


class LazyRoute(BaseRoute):
    """`made`: the class of the route that it makes. FastAPI copies a router's routes by class."""

    made: type[APIRoute] | None = None

    def __init__(self, path: str, make: Callable[[], BaseRoute]) -> None:
        self._regex, _, _ = compile_path(path)
        self._make = make

    @cached_property
    def _route(self) -> BaseRoute:
        return self._make()

    @property  # type: ignore[misc]  # of an object it is writable
    def __class__(self) -> Any:
        """For `isinstance`, by which FastAPI finds its own routes."""
        return type(self._route)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or not self._regex.match(get_route_path(scope)):
            return Match.NONE, {}
        return self._route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._route.handle(scope, receive, send)


@contextmanager
def lazy_routes() -> Iterator[None]:
    make_now = APIRouter.add_api_route

    def add(router: APIRouter, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        override = options.pop("route_class_override", None) or router.route_class
        made = getattr(override, "made", override)

        def make() -> BaseRoute:
            make_now(router, path, endpoint, route_class_override=made, **options)
            return router.routes.pop()

        lazy = type("LazyRoute", (LazyRoute,), {"made": made})
        router.routes.append(lazy(router.prefix + path, make))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(APIRouter, "add_api_route", add)
        yield
