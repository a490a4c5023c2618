"""Operations: methods written once for both clients, executed by the client's transport.

Each decorator takes a method that describes its request. On a resource of a `Client` the method
then returns the result; on one of an `AsyncClient` it has to be awaited. Parameters and types stay
the same.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import MethodType, NoneType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    overload,
)

from pydantic import ValidationError

from adaptry.client.errors import UnexpectedAnswer
from adaptry.client.models.response import ResponseModel
from adaptry.client.transport.requests import (
    WRONG_SERVER,
    Parameters,
    Request,
    RequestFlow,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adaptry.client.transport.async_transport import AsyncTransport
    from adaptry.client.transport.sync_transport import SyncTransport

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=ResponseModel)
T_co = TypeVar("T_co", covariant=True)


class Resource(Generic[T_co]):
    """Methods about one subject, executed by one transport."""

    def __init__(self, transport: T_co) -> None:
        self._transport = transport


class _Method(Generic[P, R]):
    """A method of resources. `route` is its operation, None if it combines others."""

    def __init__(self, function: Callable[Concatenate[Any, P], R], route: Route | None) -> None:
        self.function = function
        self.route = route
        functools.update_wrapper(cast("Any", self), function)

    def _bind(self, resource: Any, execute: Callable[[R], Any]) -> Any:
        function = MethodType(self.function, resource)

        @functools.wraps(function)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return execute(function(*args, **kwargs))

        return method


class Operation(_Method[P, RequestFlow[R]]):
    """Returns one result, after one request or several."""

    @overload
    def __get__(self, resource: None, owner: type) -> Self: ...
    @overload
    def __get__(self, resource: "Resource[SyncTransport]", owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(
        self, resource: "Resource[AsyncTransport]", owner: type
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, resource: Any, owner: type) -> Any:
        return self if resource is None else self._bind(resource, resource._transport.run)


class _Items(_Method[P, Parameters], ABC, Generic[P, M]):
    """Yields items of one model."""

    def __init__(
        self, function: Callable[Concatenate[Any, P], Parameters], route: Route, item: type[M]
    ) -> None:
        super().__init__(function, route)
        function.__annotations__["return"] = Iterator[item]  # type: ignore[valid-type]  # for help()
        self._route = route
        self.item = item

    @overload
    def __get__(self, resource: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, resource: "Resource[SyncTransport]", owner: type
    ) -> Callable[P, Generator[M, None, None]]: ...
    @overload
    def __get__(
        self, resource: "Resource[AsyncTransport]", owner: type
    ) -> Callable[P, AsyncGenerator[M, None]]: ...
    def __get__(self, resource: Any, owner: type) -> Any:
        if resource is None:
            return self
        return self._bind(resource, functools.partial(self._iterate, resource._transport))

    @abstractmethod
    def _iterate(self, transport: Any, parameters: Parameters) -> Any:
        """The items, by the transport's own kind of iterator."""


class Pages(_Items[P, M]):
    """Yields the items of all pages, and requests each page when it is needed."""

    def _iterate(self, transport: Any, parameters: Parameters) -> Any:
        return transport.pages(self._page, parameters)

    def _page(self, parameters: Parameters, token: str) -> RequestFlow[tuple[list[M], str]]:
        """The items of one page, and the token of the next page or an empty string."""
        query = {**parameters.query, "page_token": token or None}
        response = yield self._route.request(Parameters(parameters.path, query))
        items = response.content.get("items")
        if not isinstance(items, list):
            raise UnexpectedAnswer(WRONG_SERVER)
        next_token = response.content.get("next_page_token") or ""
        return [parse(self.item, item) for item in items], next_token


class Stream(_Items[P, M]):
    """Yields Server-Sent Events as they happen, and reconnects as often as needed."""

    def _iterate(self, transport: Any, parameters: Parameters) -> Any:
        return transport.stream(self._route.request(parameters), self._parse_event)

    def _parse_event(self, data: str) -> M:
        try:
            return self.item.model_validate_json(data)
        except ValidationError as error:
            raise UnexpectedAnswer(WRONG_SERVER) from error


class EndingStream(Stream[P, M]):
    """Yields the Server-Sent Events of one answer, until its mark of the end."""

    def _iterate(self, transport: Any, parameters: Parameters) -> Any:
        return transport.answer(self._route.request(parameters), self._parse_event)


class Download(_Method[P, Request]):
    """Yields bytes in chunks while a `with` block holds the connection."""

    @overload
    def __get__(self, resource: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, resource: "Resource[SyncTransport]", owner: type
    ) -> Callable[P, AbstractContextManager[Iterator[bytes]]]: ...
    @overload
    def __get__(
        self, resource: "Resource[AsyncTransport]", owner: type
    ) -> "Callable[P, AbstractAsyncContextManager[AsyncIterator[bytes]]]": ...
    def __get__(self, resource: Any, owner: type) -> Any:
        return self if resource is None else self._bind(resource, resource._transport.download)


def operation(
    method: str, path: str, result: type[R]
) -> Callable[[Callable[Concatenate[Any, P], Parameters]], Operation[P, R]]:
    """One request, whose response is of this type (NoneType: has no content)."""
    route = Route(method, path)

    def decorate(function: Callable[Concatenate[Any, P], Parameters]) -> Operation[P, R]:
        @functools.wraps(function)
        def flow(resource: Any, /, *args: P.args, **kwargs: P.kwargs) -> RequestFlow[R]:
            response = yield route.request(function(resource, *args, **kwargs))
            return parse(result, response.content)

        function.__annotations__["return"] = result  # what help() and an IDE's runtime show
        return Operation(flow, route)

    return decorate


def request_flow(
    method: str, path: str
) -> Callable[[Callable[Concatenate[Any, P], RequestFlow[R]]], Operation[P, R]]:
    """One operation whose request or response is handled by the method itself."""
    return lambda function: Operation(function, Route(method, path))


def composite(function: Callable[Concatenate[Any, P], RequestFlow[R]]) -> Operation[P, R]:
    """A combination of other operations."""
    return Operation(function, None)


def pages(
    path: str, item: type[M]
) -> Callable[[Callable[Concatenate[Any, P], Parameters]], Pages[P, M]]:
    return lambda function: Pages(function, Route("GET", path), item)


def stream(
    path: str, item: type[M]
) -> Callable[[Callable[Concatenate[Any, P], Parameters]], Stream[P, M]]:
    return lambda function: Stream(function, Route("GET", path), item)


def ending_stream(
    method: str, path: str, item: type[M]
) -> Callable[[Callable[Concatenate[Any, P], Parameters]], EndingStream[P, M]]:
    return lambda function: EndingStream(function, Route(method, path), item)


def download(path: str) -> Callable[[Callable[Concatenate[Any, P], Parameters]], Download[P]]:
    route = Route("GET", path)

    def decorate(function: Callable[Concatenate[Any, P], Parameters]) -> Download[P]:
        @functools.wraps(function)
        def request(resource: Any, /, *args: P.args, **kwargs: P.kwargs) -> Request:
            return route.request(function(resource, *args, **kwargs))

        return Download(request, route)

    return decorate


def parse(model: type[R], content: object) -> R:
    """The content as this model. Raises UnexpectedAnswer."""
    if model is NoneType:
        return cast("R", None)
    try:
        return cast("R", cast("type[ResponseModel]", model).model_validate(content))
    except ValidationError as error:
        raise UnexpectedAnswer(WRONG_SERVER) from error
