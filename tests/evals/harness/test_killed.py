"""SIGKILL at random points loses only what was under way: the rest is neither asked nor described again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from textlens.agent.models.server import ServerModel
from textlens.evals.harness.completion_cache import CompletionCache
from textlens.evals.harness.saved_results import read_results, read_samples

from .tiny_benchmark import Reader, write_benchmark

IMAGES = 90  # 30 of them are asked about, with two questions each
KILLS = 20
AT_ONCE = 32  # prompts sent to a server
BATCH = 32  # images
SECONDS = 120


class ReaderServer(ThreadingHTTPServer):
    """The tiny benchmark's reader behind HTTP, slow; asked: all requests."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ReaderServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "reader"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/completions"):
            return self.answer({}, 404)
        self.server.asked.append(body)
        time.sleep(random.uniform(0.01, 0.04))
        usage = {"prompt_tokens": 5, "completion_tokens": 1}
        return self.answer({"choices": [{"text": said(body["prompt"]), "finish_reason": "stop"}], "usage": usage})

    def answer(self, body: dict, status: int = 200) -> None:
        try:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())
        except OSError:  # of a killed process
            pass


def said(prompt: str) -> str:
    return Reader().complete([prompt])[0].text


@dataclass
class Runs:
    """Runs of `killable_runs.py` in a folder."""

    folder: Path
    server: ReaderServer
    process: subprocess.Popen
    asked: list[dict] = field(default_factory=list)  # requests of these runs
    twice: list[str] = field(default_factory=list)  # prompts asked although their answers were kept

    def __post_init__(self) -> None:
        write_benchmark(self.folder, IMAGES)

    @property
    def described(self) -> Counter[str]:
        path = self.folder / "described.txt"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def cache(self) -> CompletionCache:
        return CompletionCache(self.folder / "out" / "cache", ServerModel(self.server.url))

    def kept(self) -> set[str]:
        """Keys of the answers in the cache, each checked."""
        cache, found = self.cache(), set()
        for body in self.asked:
            key = key_of(cache, body)
            if (one := cache.get(key, body["prompt"])) is not None:
                assert (one.text, one.finish_reason) == (said(body["prompt"]), "stop")
                found.add(key)
        return found

    def run(self, *, prompts: int | None = None, seconds: float = 0.0) -> int:
        """Signal that ended it, or 0. prompts: killed `seconds` after so many were asked; None: not killed."""
        kept, before = self.kept(), len(self.server.asked)
        self.process.stdin.write(f"{self.folder}\n")
        self.process.stdin.flush()
        number, end = int(self.process.stdout.readline()), time.monotonic() + SECONDS
        if prompts is not None:
            while len(self.server.asked) < before + prompts and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(seconds)
            os.kill(number, signal.SIGKILL)
        status = int(self.process.stdout.readline())
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        asked, cache = self.server.asked[before:], self.cache()
        self.asked += asked
        self.twice += [one["prompt"] for one in asked if key_of(cache, one) in kept]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def key_of(cache: CompletionCache, body: dict) -> str:
    settings = {name: body[name] for name in ("max_tokens", "stop", "temperature", "seed")}
    return cache.key(body["prompt"], {**settings, "temperature": float(settings["temperature"]), "choices": None})


@pytest.fixture(scope="module")
def server_and_process() -> Iterator[tuple[ReaderServer, subprocess.Popen]]:
    server = ReaderServer()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    command = [sys.executable, str(Path(__file__).with_name("killable_runs.py")), server.url]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        yield server, process
        process.stdin.close()
        process.wait(timeout=SECONDS)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def undisturbed(server_and_process, tmp_path_factory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("whole"), *server_and_process)
    assert runs.run() == 0
    assert set(Counter(one["prompt"] for one in runs.asked).values()) == {1}
    number = len(runs.asked)
    assert runs.run() == 0  # from the caches alone
    assert len(runs.asked) == number > 300
    return runs


def test_kills_lose_only_what_was_under_way(undisturbed, server_and_process, tmp_path):
    rng, runs, torn = random.Random(7), Runs(tmp_path, *server_and_process), 0
    for turn in range(KILLS):
        left = len(undisturbed.asked) - len(runs.kept())
        assert left  # still in the middle
        assert runs.run(prompts=rng.randrange(min(60, 1 + left // 2)), seconds=rng.uniform(0, 0.02)) == signal.SIGKILL
        if turn % 4 == 3:
            tear(tmp_path / "out" / "cache", rng)
            torn += 1
    assert 0 < len(runs.kept()) < len(undisturbed.asked)
    assert runs.run() == 0
    assert not runs.twice
    asked = Counter(one["prompt"] for one in runs.asked)
    assert set(asked) == {one["prompt"] for one in undisturbed.asked}
    assert asked.total() - len(asked) <= AT_ONCE * KILLS + torn
    assert set(runs.described) == set(undisturbed.described)
    assert runs.described.total() - len(runs.described) <= BATCH * KILLS + torn
    assert read_results(tmp_path / "out").results == read_results(undisturbed.folder / "out").results
    assert [*read_samples(tmp_path / "out", "colours")] == [*read_samples(undisturbed.folder / "out", "colours")]
    names = [{path.name for path in (one.folder / "out" / "images").iterdir()} for one in (runs, undisturbed)]
    assert names[0] >= names[1]


def tear(folder: Path, rng: random.Random) -> None:
    """Cut the last line of each cache within itself, as a kill within a write does."""
    for path in folder.glob("*.jsonl"):
        content = path.read_bytes()
        last = content.rstrip(b"\n").rpartition(b"\n")[2]
        path.write_bytes(content[: len(content) - 1 - rng.randrange(1, max(2, len(last)))])
