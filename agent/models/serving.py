"""A vLLM server on this machine: started, waited for, and stopped with all its processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import httpx

from ...errors import InputError, TextlensError
from .gemma import gemma_folder
from .registry import LANGUAGE_MODELS
from .vllm_environment import HOST, find_vllm

STOP_SECONDS = 15.0  # from SIGTERM to SIGKILL
_CHILDREN_SECONDS = 3.0  # for the other processes, once the first has ended
_LAST_LINES = 20
_ERROR = re.compile(r"(?:^|\] )([\w.]+(?:Error|Exception)\b.*)")
# Ends the process group $0 once stdin closes, as it does even if our process is killed.
_WATCH = 'cat > /dev/null; kill "$0"; sleep 10; kill -s KILL -- "-$0"'

Say = Callable[[str], object]


class ServingError(TextlensError):
    """The server did not start, or ended by itself; the message holds the end of its log."""


@contextmanager
def serving(model: str | Path | None = None, **settings: Any) -> Iterator[str]:
    """Runs a vLLM server and yields its address, such as "http://127.0.0.1:8000/v1". Arguments: `run_server`."""
    with run_server(model, **settings) as (address, _):
        yield address


def serve(announce: Say, model: str | Path | None = None, *, say: Say, **settings: Any) -> None:
    """Serve until SIGINT or SIGTERM. announce: called with the address once the server is ready. Others: `run_server`.

    Raises `ServingError` if the server ends by itself.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        with run_server(model, say=say, **settings) as (address, wait):
            announce(address)
            say(f"ready: textlens ask IMAGE QUESTION --llm {address}; Ctrl-C ends it")
            try:
                wait()
            except KeyboardInterrupt:
                say("ending the server")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not set from Python, cannot be restored


@contextmanager
def run_server(
    model: str | Path | None = None,
    *,
    port: int = 0,
    python: str | None = None,
    arguments: Sequence[str] = (),
    startup_seconds: float = 900.0,
    say: Say = lambda line: None,
) -> Iterator[tuple[str, Callable[[], NoReturn]]]:
    """Runs a server; yields its address and a function that waits for its end, which is a `ServingError`.

    model: folder, hub id or "gemma"; by default the small model. port: 0 takes a free one. python: see `find_vllm`.
    arguments: further flags for vLLM. say: called with progress lines.
    Raises `InputError` for a model that cannot be served, `ServingError` if the server does not start.
    """
    source, name, is_folder = _checked(model, say)
    port = _free_port(port)
    vllm = find_vllm(python)
    with tempfile.NamedTemporaryFile(prefix="textlens-vllm-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    say(f"starting vLLM for {name} on a {'CPU' if vllm.cpu else 'GPU'}, in a minute or more; its log: {log}")
    command = vllm.command(source, name, port, arguments)
    with _group(command, vllm.variables(offline=is_folder), log) as process:
        _wait_until_healthy(process, port, log, startup_seconds)

        def wait() -> NoReturn:
            code = process.wait()
            raise ServingError(f"vLLM ended by itself (exit code {code}); {_end_of(log)}")

        yield f"http://{HOST}:{port}/v1", wait
    log.unlink()  # kept after an error


def _checked(model: str | Path | None, say: Say) -> tuple[str, str, bool]:
    """What vLLM loads, its name on the server, and whether it is a folder."""
    if model == "gemma":
        return str(gemma_folder(say=say)), "gemma", True
    source = str(model or LANGUAGE_MODELS["tiny"].default)
    folder = Path(source)
    if folder.is_dir() and (folder / "config.json").is_file():
        return str(folder.resolve()), folder.resolve().name, True
    if model is None:
        raise InputError(f"the small language model is not there: no config.json in {source}; name one with --model")
    if folder.exists() or source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise InputError(f"{source} is no folder of a language model: expected one with config.json, or a hub id")
    return source, source, False


def _free_port(port: int) -> int:
    """The port, or a free one for 0. Raises `InputError` if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port} cannot be used: {error}; choose another, or 0 for a free one") from error
        return int(probe.getsockname()[1])


@contextmanager
def _group(command: list[str], variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process group that ends with the context, and also if our process is killed."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=variables, start_new_session=True
        )
    watch = ["sh", "-c", _WATCH, str(process.pid)]
    watcher = subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        try:
            _end(process)
        finally:
            watcher.kill()
            watcher.communicate()


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process, then SIGKILL to what is left of its group."""
    try:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            end = time.monotonic() + _CHILDREN_SECONDS
            while not _is_empty(process.pid) and time.monotonic() < end:  # they free their shared memory
                time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not _answers(f"http://{HOST}:{port}/health"):
        if process.poll() is not None:
            raise ServingError(f"vLLM did not start (exit code {process.returncode}); {_end_of(log)}")
        if time.monotonic() > end:
            raise ServingError(f"vLLM did not answer within {seconds:g} seconds; {_end_of(log)}")
        time.sleep(0.5)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5.0, trust_env=False).is_success  # never by a proxy
    except httpx.TransportError:
        return False


def _end_of(log: Path) -> str:
    """The last lines, and every error in the log: the first one often stands long before the end."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = dict.fromkeys(found[1] for line in lines if (found := _ERROR.search(line)))
    shown = [f"the end of its log ({log}):", *lines[-_LAST_LINES:]]
    return "\n".join([*shown, "all errors in it:", *errors] if errors else shown)
