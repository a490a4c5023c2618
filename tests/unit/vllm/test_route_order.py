"""Order of the routes: those that generate are found first, and all others where they were."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from engine.vllm.app import put_often_called_first


def test_the_routes_that_generate_are_found_first_and_all_others_as_before() -> None:
    paths = ["/metrics", "/v1/models", "/metrics", "/v1/completions", "/tokenize"]
    routes: list[BaseRoute] = [Route(path, _respond, methods=["POST"]) for path in paths]
    before = list(routes)
    put_often_called_first(routes)
    assert routes == [before[3], *before[:3], before[4]]
    tried = [route for route in routes if _matches(route, "/v1/completions")]
    assert tried == routes[:1]


def test_uploads_come_next() -> None:
    paths = ["/api/v1/jobs", "/api/v1/adapters/{name}/versions", "/v1/completions"]
    routes: list[BaseRoute] = [Route(path, _respond, methods=["POST"]) for path in paths]
    before = list(routes)
    put_often_called_first(routes)
    assert routes == [before[2], before[1], before[0]]


def _matches(route: BaseRoute, path: str) -> bool:
    match, _ = route.matches({"type": "http", "method": "POST", "path": path})
    return match is Match.FULL


async def _respond(request: Request) -> Response:
    return Response()
