"""`adaptry fanout`: one prompt past several models, and the answer of each."""

from typing import Annotated, Any

import typer

from adaptry.client.models import FanoutAnswer
from adaptry.terminal.completion import references
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect
from adaptry.terminal.output import show_json, show_table

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="NAME, or NAME=SUFFIX: what follows the prompt for this model. Repeatable.",
        autocompletion=references,
    ),
]


def fanout(
    prompt: Annotated[str, typer.Argument(help="What all of them read.")],
    model: Models,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 16,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Ask several models over one prompt, which is computed once; print each answer.

    Exits with 1 if any model failed.
    """
    with connect(server) as client:
        found = client.fanout(
            list(map(_model, model)),
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=temperature,
        )
    if as_json:
        show_json(found)
    else:
        show_table(
            ("MODEL", "VERSION", "ANSWER"),
            (
                (name, answer.version or "-", _text(answer))
                for name, answer in found.answers.items()
            ),
        )
    if any(answer.error is not None for answer in found.answers.values()):
        raise typer.Exit(1)


def _model(given: str) -> dict[str, Any]:
    name, equals, suffix = given.partition("=")
    return {"model": name, "suffix": suffix} if equals else {"model": name}


def _text(answer: FanoutAnswer) -> str:
    if answer.error is not None:
        return f"{answer.status}: {answer.error.get('message', '')}"
    (first, *_) = (answer.answer or {}).get("choices") or [{}]
    return repr(first.get("text", ""))
