"""Attacker: a process that sends one attack again and again, from an address of its own.

    python -m benchmarks.neighbour.attacker URL ATTACK SECONDS

It says `ready` when the body is made, begins with a line on its input, and prints its answers.
"""

import json
import sys
import time
from collections import Counter

import httpx

from benchmarks.neighbour.attacks import Attack, attacks

ADDRESS = "127.0.0.2"
PAUSE_SECONDS = 0.1
_ANSWER_SECONDS = 120.0


def send(url: str, attack: Attack, seconds: float) -> Counter[str]:
    body = json.dumps(attack.body).encode()
    print("ready", flush=True)
    sys.stdin.readline()
    answers: Counter[str] = Counter()
    headers = {"content-type": "application/json"}
    transport = httpx.HTTPTransport(local_address=ADDRESS)
    timeout = attack.leave_seconds or _ANSWER_SECONDS
    ends = time.monotonic() + seconds
    with httpx.Client(base_url=url, transport=transport, timeout=timeout) as client:
        while time.monotonic() < ends:
            try:
                answer = client.post(attack.path, content=body, headers=headers)
                answers[str(answer.status_code)] += 1
            except httpx.TransportError as error:
                answers[type(error).__name__] += 1
            time.sleep(PAUSE_SECONDS)
    return answers


def main() -> None:
    url, name, seconds = sys.argv[1:]
    (attack,) = [each for each in attacks() if each.name == name]
    print(json.dumps(send(url, attack, float(seconds))), flush=True)


if __name__ == "__main__":
    main()
