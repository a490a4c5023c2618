"""Guide of the demo: a curl command for each adapter, with its expected output."""

from collections.abc import Sequence
from dataclasses import dataclass

from adaptry.terminal.options import DEFAULT_SERVER

WORD = "hello"
PROMPT = f"{WORD}="
ANSWERS = {
    "double": "hheelllloo",
    "reverse": "olleh",
    "rot13": "uryyb",
    "stars": "h*ll*",
    "upper": "HELLO",
    "vowels": "eo",
}
"""What each adapter of the demo makes of the word."""
ACTIVATED, INVOCATION, JUDGED = "judge", "#vowel=", "no"
"""An activated adapter: its answer after its invocation, whether the word begins with a vowel."""
AS_JSON = "-H 'Content-Type: application/json'"


@dataclass(frozen=True, slots=True)
class Guide:
    """Every command can be pasted as it is."""

    base_url: str
    command: str
    adapters: Sequence[str]
    pinned: str

    def text(self) -> str:
        known = [name for name in self.adapters if name in ANSWERS]
        asks = "\n".join(f"  {self.ask(name)}   # {ANSWERS[name]}" for name in known)
        return f"""
Try each adapter with "{WORD}"; the expected output follows the #:
{asks}

The same as a chat, as a stream, and as plain text in, plain text out:
  {self.chat(known[0])}
  {self.ask(known[0], more=', "stream": true')}
  {self.generate(known[0])}
{self._judge() if ACTIVATED in self.adapters else ""}
See what happened:
  {self.command} cache show{self.server()}
  {self.adapter("list")}
  curl -s {self.base_url}/v1/models
  curl -s {self.base_url}/metrics | grep ^adaptry_
  {self.base_url}/docs
  {self.base_url}/console

Two adapters fit into slots and four into host memory, and {self.pinned} is pinned. Used in turn,
the others miss and are evicted again; `curl -i` shows where each was found (x-adaptry-cache).
"""

    def _judge(self) -> str:
        answered = f"{PROMPT}{WORD}{INVOCATION}"
        ask = self.ask(ACTIVATED, prompt=answered)
        return f"""
Ask {ACTIVATED}, which acts after {INVOCATION}: all before it is the base model's, and shared:
  {ask}   # {JUDGED}
"""

    def adapter(self, command: str) -> str:
        return f"{self.command} adapter {command}{self.server()}"

    def server(self) -> str:
        return "" if self.base_url == DEFAULT_SERVER else f" --server {self.base_url}"

    def ask(self, name: str, more: str = "", prompt: str = PROMPT) -> str:
        body = f'{{"model": "{name}", {_prompt(prompt)}, "temperature": 0{more}}}'
        return f"curl -s {self.base_url}/v1/completions {AS_JSON} -d '{body}'"

    def chat(self, name: str) -> str:
        message = f'{{"role": "user", "content": "{WORD}"}}'
        body = f'{{"model": "{name}", "messages": [{message}], "temperature": 0}}'
        return f"curl -s {self.base_url}/v1/chat/completions {AS_JSON} -d '{body}'"

    def generate(self, name: str) -> str:
        return f'curl -s {self.base_url}/generate -d \'{{"model": "{name}", {_prompt()}}}\''


def _prompt(prompt: str = PROMPT) -> str:
    return f'"prompt": "{prompt}", "max_tokens": 16'
