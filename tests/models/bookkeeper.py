"""A client of serving that keeps a book of its own: every event that was answered 2xx, written down and synced.

    python -m tests.models.bookkeeper ADDRESS BOOK

It ranks and gives feedback without pause until its standard input ends. A line of ``BOOK`` is what one answer
acknowledged; ``BOOK.refused`` gets a byte for each request that was answered otherwise, or not at all.
"""

import json
import os
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import httpx

CLIENTS = 3


def keep(address: str, book: Path) -> None:
    """Until standard input ends."""
    stopping = threading.Event()
    with book.open("ab", buffering=0) as taken, book.with_suffix(".refused").open("ab", buffering=0) as refused:
        writing = threading.Lock()

        def write_down(shown: list[str], feedback: list[tuple[str, str]]) -> None:
            with writing:
                taken.write(json.dumps({"shown": shown, "feedback": feedback}).encode() + b"\n")
                os.fsync(taken.fileno())

        def client(number: int) -> None:
            with httpx.Client(base_url=address, timeout=15) as http:

                def post(path: str, body: dict[str, Any]) -> Any:
                    try:
                        response = http.post(path, json=body)
                    except httpx.HTTPError:
                        response = None
                    if response is not None and response.is_success:
                        return response.json()
                    refused.write(b".")
                    time.sleep(0.02)  # a server that is down refuses thousands a second
                    return None

                for n in count():
                    if stopping.is_set():
                        return
                    user = {"user_id": f"u{n % 7}", "context": {"device": "tv"}, "items": ["a", "b", "c", "d"]}
                    answer = post("/v1/feed/rank", {**user, "request_id": f"{os.getpid()}-{number}-{n}"})
                    if answer is None:
                        continue
                    shown = [item["impression_id"] for item in answer["items"]]
                    write_down(shown, [])
                    if post("/v1/feedback", {"impression_id": shown[0], "kind": "click"}) is not None:
                        write_down([], [(shown[0], "click")])
                    events = [{"impression_id": one, "kind": "dwell", "value": 2.0} for one in shown[1:]]
                    if post("/v1/feedback", {"events": events}) is not None:
                        write_down([], [(one, "dwell") for one in shown[1:]])

        clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for each in clients:
            each.start()
        sys.stdin.read()
        stopping.set()
        for each in clients:
            each.join()


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
