"""Tally of requests: what the metrics would count."""


class RequestTally:
    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.refusals: list[str] = []
        self.tokens: list[tuple[str, int, int]] = []

    def count_request(self, adapter: str, outcome: str, seconds: float) -> None:
        self.outcomes.append(outcome)

    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None:
        self.tokens.append((adapter, prompt, generation))

    def count_refusal(self, code: str) -> None:
        self.refusals.append(code)
