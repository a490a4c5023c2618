"""Prompt tail: text goes on as after the whole prompt, whatever the tokenizer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream

from engine.vllm.tokenizing.prompt_tail import LONG, cut_prompt, decode_from_tail, find_tail

ROOT = Path(__file__).resolve().parents[3]
WORDS = ("▁the", "▁a", "cat", "s", "▁", "é", "▁日", "本", ".", "<eos>", "▁▁")


def sentencepiece() -> Tokenizer:
    """As Llama 2's: words, a space before each, and a token for every byte."""
    names = [*(f"<0x{number:02X}>" for number in range(256)), *WORDS]
    vocabulary = {name: at for at, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.add_special_tokens(["<eos>"])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def wordpiece() -> Tokenizer:
    names = ["[UNK]", "the", "cat", "##s", ".", "n", "'", "##t", ",", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece({name: at for at, name in enumerate(names)}))
    tokenizer.add_special_tokens(["[SEP]"])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


TOKENIZERS = {
    "bytes": Tokenizer.from_file(str(ROOT / "demo" / "base" / "tokenizer.json")),
    "sentencepiece": sentencepiece(),
    "wordpiece": wordpiece(),
}


def texts_after(stream: Any, tokenizer: Tokenizer, generated: list[int]) -> list[str | None]:
    return [stream.step(tokenizer, token) for token in generated]


def detokenizer(tokenizer: Tokenizer, prompt: list[int], *, skips: bool) -> Any:
    stream = DecodeStream(ids=prompt, skip_special_tokens=skips)
    return SimpleNamespace(stream=stream, tokenizer=tokenizer, skip_special_tokens=skips)


def stream_after(tokenizer: Tokenizer, prompt: list[int], *, skips: bool) -> Any:
    """After all of a prompt, and where it ends within a character, after the one before that."""
    for end in range(len(prompt), len(prompt) - 9, -1):
        if not tokenizer.decode(prompt[:end], skip_special_tokens=skips).endswith("\ufffd"):
            stream = DecodeStream(ids=prompt[:end], skip_special_tokens=skips)
            assert texts_after(stream, tokenizer, prompt[end:]) == [None] * (len(prompt) - end)
            return stream
    return DecodeStream(ids=prompt, skip_special_tokens=skips)


@settings(max_examples=150)
@given(st.data(), st.sampled_from(sorted(TOKENIZERS)), st.booleans())
def test_text_goes_on_as_after_the_whole_prompt(
    data: st.DataObject, name: str, skips: bool
) -> None:
    """Prompts and answers that end within a word, a character or a run of bytes too."""
    tokenizer = TOKENIZERS[name]
    size = tokenizer.get_vocab_size()
    ids = st.integers(0, size - 1) | st.integers(max(size - 20, 0), size - 1)
    runs = data.draw(st.lists(st.tuples(st.lists(ids, max_size=6), st.integers(1, 90)), min_size=1))
    run = [token for tokens, times in runs for token in tokens * times]
    generated = data.draw(st.lists(ids, min_size=1, max_size=6))
    prompt = [size - 2] * max(LONG + 1 - len(run), 0) + run
    whole = stream_after(tokenizer, prompt, skips=skips)
    cut = detokenizer(tokenizer, prompt, skips=skips)
    cut_prompt(cut, prompt)
    try:
        wanted = texts_after(whole, tokenizer, generated)
    except Exception as error:  # it is reset by vLLM then
        with pytest.raises(type(error)):
            texts_after(cut.stream, tokenizer, generated)
    else:
        assert texts_after(cut.stream, tokenizer, generated) == wanted


class Counting:
    """A tokenizer that counts what it makes text of."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.tokens = 0

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        self.tokens += len(ids)
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def id_to_token(self, token: int) -> str | None:
        found: str | None = self._tokenizer.id_to_token(token)
        return found


def test_a_long_prompt_costs_no_more_than_its_end() -> None:
    tokenizer = Counting(TOKENIZERS["bytes"])
    prompt = TOKENIZERS["bytes"].encode("forest=" * 4000).ids
    assert find_tail(tokenizer, prompt, skips_special=True) == (prompt[-64:], [])
    assert tokenizer.tokens == 2 * 64 + 1, "and whether the first is skipped"
    tokenizer.tokens = 0
    whole, half = prompt[:-2], TOKENIZERS["bytes"].encode("語").ids[:2]
    found = find_tail(tokenizer, [*whole, *half], skips_special=True)
    assert found == (whole[-62:], half)
    assert tokenizer.tokens < 5 * 64


@pytest.mark.parametrize("words", [1, 100, 4000])
@pytest.mark.parametrize("name", ["bytes", "sentencepiece"])
def test_an_answer_begins_with_the_character_that_its_prompt_ends_within(
    name: str, words: int
) -> None:
    """The decoder says all of the prompt again, before that character."""
    tokenizer = TOKENIZERS[name]
    is_bytes = name == "bytes"
    word = tokenizer.encode("f").ids if is_bytes else [tokenizer.token_to_id("cat")]
    *begin, end = tokenizer.encode("日").ids if is_bytes else "日".encode()
    prompt = [*(word * words), *begin]
    said = DecodeStream(ids=prompt, skip_special_tokens=True)
    assert len("".join(filter(None, texts_after(said, tokenizer, [end])))) > words
    cut = detokenizer(tokenizer, prompt, skips=True)
    cut_prompt(cut, prompt)
    assert texts_after(cut.stream, tokenizer, [end, *word])[0] == "日"


@pytest.mark.parametrize("words", [1, 4000])
def test_nor_is_a_prompt_said_again_if_a_skipped_token_follows_the_half_character(
    words: int,
) -> None:
    tokenizer = TOKENIZERS["bytes"]
    *begin, end = tokenizer.encode("日").ids
    prompt = [*(tokenizer.encode("f").ids * words), *begin, tokenizer.get_vocab()["<end>"]]
    cut = detokenizer(tokenizer, prompt, skips=True)
    cut_prompt(cut, prompt)
    assert texts_after(cut.stream, tokenizer, [end]) == ["日"]


@pytest.mark.parametrize("skipped", [1, 600])
def test_nor_if_it_says_too_little_to_be_told_from_its_end(skipped: int) -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    word, eos = (tokenizer.get_vocab()[name] for name in ("▁the", "<eos>"))
    cut = detokenizer(tokenizer, [eos] * skipped + [word, 0x80], skips=True)
    cut_prompt(cut, [eos] * skipped + [word, 0x80])
    assert texts_after(cut.stream, tokenizer, [word]) == ["\ufffd the"]


def test_an_end_that_says_nothing_leaves_all_of_the_prompt() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    half = [0xE6, 0x97]  # of a character
    word, eos = (tokenizer.get_vocab()[name] for name in ("▁the", "<eos>"))
    for end in ([eos] * 600, [0xE6, 0x97, 0xA5] * 300, half * 9):
        assert find_tail(tokenizer, [word] * 999 + end, skips_special=True) is None
    assert find_tail(tokenizer, [word] * 999 + [eos] * 500, skips_special=True) is not None


@pytest.mark.parametrize("skips", [True, False])
def test_bytes_go_on_over_tokens_that_are_skipped(*, skips: bool) -> None:
    """The tail would begin with one of these, and the run of bytes before them makes no text."""
    tokenizer = TOKENIZERS["sentencepiece"]
    word, eos = (tokenizer.get_vocab()[name] for name in ("▁the", "<eos>"))
    prompt = [word] * 999 + [0xFF] + [eos] * 10 + [ord("a")] * 60
    whole = DecodeStream(ids=prompt, skip_special_tokens=skips)
    cut = detokenizer(tokenizer, prompt, skips=skips)
    cut_prompt(cut, prompt)
    assert texts_after(cut.stream, tokenizer, [word]) == texts_after(whole, tokenizer, [word])


def test_each_new_request_is_cut_and_one_that_goes_on_is_not() -> None:
    """A client that streams its prompt adds to the same request."""
    tokenizer, prompt = TOKENIZERS["bytes"], [70] * (LONG + 1)
    states: dict[str, Any] = {}

    def add_request(request: Any, text: str | None) -> None:
        made = detokenizer(tokenizer, request.prompt_token_ids, skips=True)
        states.setdefault(request.request_id, SimpleNamespace(detokenizer=made))

    processor = SimpleNamespace(add_request=add_request, request_states=states)
    decode_from_tail(processor)
    request = SimpleNamespace(request_id="r", prompt_token_ids=prompt)
    whole = DecodeStream(ids=prompt, skip_special_tokens=True)
    processor.add_request(request, None)
    first = states["r"].detokenizer.stream
    assert texts_after(first, tokenizer, [70]) == texts_after(whole, tokenizer, [70])
    processor.add_request(request, None)
    assert states["r"].detokenizer.stream is first


@pytest.mark.parametrize("prompt", [None, [], [70] * LONG])
def test_a_short_prompt_and_embeddings_are_left_as_they_are(prompt: list[int] | None) -> None:
    made = detokenizer(TOKENIZERS["bytes"], prompt or [], skips=True)
    stream = made.stream
    cut_prompt(made, prompt)
    cut_prompt(SimpleNamespace(), [70] * (LONG + 1))  # of a request without text
    assert made.stream is stream
