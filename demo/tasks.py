"""Tasks of the demo adapters in plain Python: the expected outputs."""

from collections.abc import Callable
from dataclasses import dataclass

_ROT13 = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")


def prompt_for(word: str) -> str:
    """The completion prompt; the chat template produces the same from a user message."""
    return f"{word}="


@dataclass(frozen=True, slots=True)
class Task:
    """One text tool: its prompt of a lower-case word, and the adapter's expected output."""

    name: str
    describe: str
    answer: Callable[[str], str]
    prompt: Callable[[str], str] = prompt_for


def _vowels(word: str) -> str:
    return "".join(letter for letter in word if letter in "aeiou")


def _double(word: str) -> str:
    return "".join(letter * 2 for letter in word)


def _stars(word: str) -> str:
    return "".join("*" if letter in "aeiou" else letter for letter in word)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("upper", "UPPER CASE", str.upper),
        Task("reverse", "backwards", lambda word: word[::-1]),
        Task("rot13", "every letter 13 places on", lambda word: word.translate(_ROT13)),
        Task("vowels", "the vowels only", _vowels),
        Task("double", "every letter twice", _double),
        Task("stars", "a star for every vowel", _stars),
    )
}

UPPER_V2 = Task("upper", "UPPER CASE, with emphasis", lambda word: word.upper() + "!")

INVOCATION = "#vowel="
"""Ends the prompt of the activated adapter: before it, the adapter has no effect."""

ACTIVATED = Task(
    "judge",
    "whether a word begins with a vowel",
    lambda word: "yes" if word[0] in "aeiou" else "no",
    lambda word: f"{word}={word}{INVOCATION}",  # after what the base model has answered
)

_WORDS = """
hello world adapter orange window kitchen mountain river garden bridge candle forest market pencil
rabbit silver travel united violin winter yellow zebra anchor butter circle dragon engine flower
guitar hammer island jungle kettle lemon mirror needle ocean planet quiet rocket
"""

HELD_OUT_WORDS = tuple(_WORDS.split())
"""Real words, held out: training uses random letters and leaves these out."""
