"""The few pieces of Markdown that generated pages are made of."""

from collections.abc import Iterable, Sequence

MADE_BY = "<!-- Written by `make reference`: a change by hand would be lost. -->"


def page(title: str, *parts: str) -> str:
    """A whole page, ended by a newline."""
    return "\n\n".join((f"# {title}", MADE_BY, *filter(None, parts))) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Empty if there is no row."""
    lines = [_line(row) for row in rows]
    return "\n".join([_line(headings), "|---" * len(headings) + "|", *lines]) if lines else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def code(text: str) -> str:
    return f"`{text}`"


def prose(text: str) -> str:
    """Paragraphs of a docstring, each on lines as they were."""
    return "\n\n".join(
        "\n".join(line.strip() for line in paragraph.splitlines())
        for paragraph in text.strip().split("\n\n")
    )
