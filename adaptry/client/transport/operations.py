"""Methods that are written once and are both clients': the client says how they are carried out.

Each decorator here takes a method that tells what to ask for. On a group of a `Client` the method
then answers; on one of an `AsyncClient` it has to be awaited. Parameters and types stay the same.
"""

import functools
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
from adaptry.client.response import Answer
from adaptry.client.transport.requests import NOT_OURS, Flow, Given, Request, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adaptry.client.transport.async_transport import AsyncSender
    from adaptry.client.transport.sync_transport import SyncSender

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Answer)
S_co = TypeVar("S_co", covariant=True)


class Group(Generic[S_co]):
    """Calls about one thing, carried out by one sender."""

    def __init__(self, sender: S_co) -> None:
        self._sender = sender


class _Call(Generic[P, R]):
    """A method of groups. `route` is the operation it asks for, None if it is made of others."""

    def __init__(self, tell: Callable[Concatenate[Any, P], R], route: Route | None) -> None:
        self.tell = tell
        self.route = route
        functools.update_wrapper(cast("Any", self), tell)

    def _bound(self, group: Any, carry_out: Callable[[R], Any]) -> Any:
        tell = MethodType(self.tell, group)

        @functools.wraps(tell)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return carry_out(tell(*args, **kwargs))

        return call


class Operation(_Call[P, Flow[R]]):
    """Gives one answer, after one request or several."""

    @overload
    def __get__(self, group: None, owner: type) -> Self: ...
    @overload
    def __get__(self, group: "Group[SyncSender]", owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(
        self, group: "Group[AsyncSender]", owner: type
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __get__(self, group: Any, owner: type) -> Any:
        return self if group is None else self._bound(group, group._sender.run)


class Pages(_Call[P, Given], Generic[P, M]):
    """Gives the items of all pages, each page asked for when it is needed."""

    def __init__(
        self, tell: Callable[Concatenate[Any, P], Given], route: Route, item: type[M]
    ) -> None:
        super().__init__(tell, route)
        tell.__annotations__["return"] = Iterator[item]  # type: ignore[valid-type]  # for help()
        self._route = route
        self.item = item

    @overload
    def __get__(self, group: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, group: "Group[SyncSender]", owner: type
    ) -> Callable[P, Generator[M, None, None]]: ...
    @overload
    def __get__(
        self, group: "Group[AsyncSender]", owner: type
    ) -> Callable[P, AsyncGenerator[M, None]]: ...
    def __get__(self, group: Any, owner: type) -> Any:
        if group is None:
            return self
        return self._bound(group, lambda asked: group._sender.pages(self._page, asked))

    def _page(self, asked: Given, token: str) -> Flow[tuple[list[M], str]]:
        """The items of one page, and the token of the next one or nothing."""
        query = {**asked.query, "page_token": token or None}
        reply = yield self._route.request(Given(asked.path, query))
        items = reply.content.get("items")
        if not isinstance(items, list):
            raise UnexpectedAnswer(NOT_OURS)
        return [read(self.item, item) for item in items], reply.content.get("next_page_token") or ""


class Stream(_Call[P, Given], Generic[P, M]):
    """Gives Server-Sent Events as they happen, over as many connections as it takes."""

    def __init__(
        self, tell: Callable[Concatenate[Any, P], Given], route: Route, item: type[M]
    ) -> None:
        super().__init__(tell, route)
        tell.__annotations__["return"] = Iterator[item]  # type: ignore[valid-type]  # for help()
        self._route = route
        self.item = item

    @overload
    def __get__(self, group: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, group: "Group[SyncSender]", owner: type
    ) -> Callable[P, Generator[M, None, None]]: ...
    @overload
    def __get__(
        self, group: "Group[AsyncSender]", owner: type
    ) -> Callable[P, AsyncGenerator[M, None]]: ...
    def __get__(self, group: Any, owner: type) -> Any:
        if group is None:
            return self
        return self._bound(
            group, lambda asked: group._sender.stream(self._route.request(asked), self._item)
        )

    def _item(self, data: str) -> M:
        try:
            return self.item.model_validate_json(data)
        except ValidationError as error:
            raise UnexpectedAnswer(NOT_OURS) from error


class Download(_Call[P, Request]):
    """Gives bytes in chunks, for as long as a `with` block holds the connection."""

    @overload
    def __get__(self, group: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, group: "Group[SyncSender]", owner: type
    ) -> Callable[P, AbstractContextManager[Iterator[bytes]]]: ...
    @overload
    def __get__(
        self, group: "Group[AsyncSender]", owner: type
    ) -> "Callable[P, AbstractAsyncContextManager[AsyncIterator[bytes]]]": ...
    def __get__(self, group: Any, owner: type) -> Any:
        return self if group is None else self._bound(group, group._sender.download)


def operation(
    method: str, path: str, answer: type[R]
) -> Callable[[Callable[Concatenate[Any, P], Given]], Operation[P, R]]:
    """One request, whose answer is of this type (NoneType: has no content)."""
    route = Route(method, path)

    def decorate(tell: Callable[Concatenate[Any, P], Given]) -> Operation[P, R]:
        @functools.wraps(tell)
        def flow(group: Any, /, *args: P.args, **kwargs: P.kwargs) -> Flow[R]:
            reply = yield route.request(tell(group, *args, **kwargs))
            return read(answer, reply.content)

        tell.__annotations__["return"] = answer  # what help() and an IDE's runtime show
        return Operation(flow, route)

    return decorate


def flow(
    method: str, path: str
) -> Callable[[Callable[Concatenate[Any, P], Flow[R]]], Operation[P, R]]:
    """One operation, whose request or answer needs more care."""
    return lambda tell: Operation(tell, Route(method, path))


def composed(tell: Callable[Concatenate[Any, P], Flow[R]]) -> Operation[P, R]:
    """Made of other operations."""
    return Operation(tell, None)


def pages(
    path: str, item: type[M]
) -> Callable[[Callable[Concatenate[Any, P], Given]], Pages[P, M]]:
    return lambda tell: Pages(tell, Route("GET", path), item)


def stream(
    path: str, item: type[M]
) -> Callable[[Callable[Concatenate[Any, P], Given]], Stream[P, M]]:
    return lambda tell: Stream(tell, Route("GET", path), item)


def download(path: str) -> Callable[[Callable[Concatenate[Any, P], Given]], Download[P]]:
    route = Route("GET", path)

    def decorate(tell: Callable[Concatenate[Any, P], Given]) -> Download[P]:
        @functools.wraps(tell)
        def request(group: Any, /, *args: P.args, **kwargs: P.kwargs) -> Request:
            return route.request(tell(group, *args, **kwargs))

        return Download(request, route)

    return decorate


def read(answer: type[R], content: object) -> R:
    """An answer of this type. Raises UnexpectedAnswer."""
    if answer is NoneType:
        return cast("R", None)
    try:
        return cast("R", cast("type[Answer]", answer).model_validate(content))
    except ValidationError as error:
        raise UnexpectedAnswer(NOT_OURS) from error
