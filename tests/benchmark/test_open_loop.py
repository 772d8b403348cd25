"""What became of requests: a server that answers, refuses and hangs up as it is told; real HTTP, no service."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sead_ray.benchmark.open_loop import Load, Outcome, Request, summary

REQUEST = Request({"frames": []}, [("images", ("a.jpg", b"pixels", "image/jpeg"))])
Answers = Callable[[str, int], int]  # (clip, how often it came) to a status; 0: hang up


@pytest.fixture
def server() -> Iterator[tuple[str, list[Answers]]]:
    told: list[Answers] = [lambda _, __: 200]
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            (name,) = re.findall(rb'"clip_token": "([^"]+)"', body)
            token = name.decode()
            seen[token] = seen.get(token, 0) + 1
            status = told[0](token, seen[token])
            if not status:
                self.close_connection = True
                return
            answer = json.dumps({"clip_token": token, "model_version": "v", "score": 1.0} if status == 200 else {})
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", told
        http.shutdown()


def test_answered_refused_and_lost_are_told_apart(server: tuple[str, list[Answers]]):
    url, told = server
    told[0] = lambda name, _: (200, 200, 429, 0)[int(name[-1]) % 4]
    load = Load(url, REQUEST)
    asyncio.run(load.at_rate(100, 0.3, seed=1))
    found = summary(load)
    assert found["sent"] == len(load.outcomes) > 10
    assert set(found["statuses"]) == {"0", "200", "429"}
    assert found["lost"] == found["statuses"]["0"]
    assert found["answered"] == found["statuses"]["200"]
    assert (found["answered_twice"], found["answers_to_another"]) == (0, 0)
    assert found["models"] == {"v": found["answered"]}
    assert found["tried_again_after"] == {}


def test_tries_again_as_the_typed_client_does(server: tuple[str, list[Answers]]):
    url, told = server
    told[0] = lambda _, n: (503, 0, 200)[n - 1]
    load = Load(url, REQUEST, tries=3)
    assert asyncio.run(load.closed(2, 1.0)) > 0
    assert [outcome.before for outcome in load.outcomes] == [(503, 0)] * 2
    found = summary(load)
    assert (found["answered"], found["lost"], found["tries_at_most"]) == (2, 0, 3)
    assert found["tried_again_after"] == {"0": 2, "503": 2}


def test_an_answer_that_never_came_and_one_that_came_twice():
    load = Load("http://127.0.0.1:9", REQUEST)
    load.n_sent = 3
    load.outcomes = [Outcome(name, 0.0, 0.1, 200, is_mine=name == "a") for name in ("a", "a", "b")]
    found = summary(load)
    assert (found["lost"], found["answered_twice"], found["answers_to_another"]) == (1, 1, 1)
