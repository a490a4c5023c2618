"""`adaptry fanout`: one prompt past several models, and the answer of each."""

import json
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptry.terminal.completion import references
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect
from adaptry.terminal.output import show_json, show_table

if TYPE_CHECKING:
    from adaptry.client.fanout_event import FanoutEvent
    from adaptry.client.models import FanoutAnswer, FanoutResponse

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="NAME, or NAME=SUFFIX: what follows the prompt for this model. Repeatable.",
        autocompletion=references,
    ),
]
Stream = Annotated[
    bool, typer.Option("--stream", help="Print what each says as it comes, a line for each piece.")
]


def fanout(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What all of them read.")],
    model: Models,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 16,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    stream: Stream = False,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Ask several models over one prompt, which is computed once; print each answer.

    With --stream and --json, each line is an event. Exits with 1 if any model failed.
    """
    models = list(map(_model, model))
    with connect(server) as client:
        if stream:
            events = client.fanout_stream(
                models, prompt=prompt, max_tokens=max_tokens, temperature=temperature
            )
            with closing(events):
                width = max(len(each["model"]) for each in models)
                has_failed = _show_events(events, width, as_json=as_json)
        else:
            found = client.fanout(
                models, prompt=prompt, max_tokens=max_tokens, temperature=temperature
            )
            has_failed = any(answer.error is not None for answer in found.answers.values())
            _show_whole(found, as_json=as_json)
    if has_failed:
        raise typer.Exit(1)


def _model(given: str) -> dict[str, Any]:
    name, equals, suffix = given.partition("=")
    return {"model": name, "suffix": suffix} if equals else {"model": name}


def _show_whole(found: "FanoutResponse", *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    answers = found.answers.items()
    rows = ((name, answer.version or "-", _text(answer)) for name, answer in answers)
    show_table(("MODEL", "VERSION", "ANSWER"), rows)


def _text(answer: "FanoutAnswer") -> str:
    if answer.error is not None:
        return _failure(answer.status, answer.error)
    return repr(_piece(answer.answer))


def _show_events(events: "Iterable[FanoutEvent]", width: int, *, as_json: bool) -> bool:
    """Whether a model failed."""
    has_failed = False
    for event in events:
        has_failed = has_failed or event.error is not None
        if as_json:
            print(json.dumps(event.model_dump(exclude_none=True), ensure_ascii=False), flush=True)
        elif event.error is not None:
            print(f"{event.name:{width}}  {_failure(event.status, event.error)}", flush=True)
        elif piece := _piece(event.chunk):
            print(f"{event.name:{width}}  {piece!r}", flush=True)
    return has_failed


def _piece(content: dict[str, Any] | None) -> str:
    (first, *_) = (content or {}).get("choices") or [{}]
    return str(first.get("text") or "")


def _failure(status: int | None, error: dict[str, Any]) -> str:
    return f"{status or 'broken off'}: {error.get('message', '')}"
