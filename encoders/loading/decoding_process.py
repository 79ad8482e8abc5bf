"""Decodes images of strangers in a process of its own, which is ended when it takes too long.

A decoder cannot be interrupted in this process, and a crash of it would be ours. The helper processes are kept for the
next image. They hold nothing but the image, and their memory is bounded where the system can do that (not Windows).

A request is the length of its JSON and of the file, the JSON of `ImageLimits`, and the file. The answer is the length
of its JSON, {"size": [width, height]} or {"error": …}, and the RGB pixels.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from PIL import Image

from ...errors import reason
from ..signatures import formats
from .limits import ImageError, ImageLimits
from .pixel_decoding import decode

MOST = 4  # helpers that work at once
_START_SECONDS, _MAX_SECONDS = 120.0, 1e6
_REQUEST, _ANSWER = struct.Struct(">IQ"), struct.Struct(">I")
_MAX_ANSWER = 2**16  # bytes of JSON


def decode_apart(data: bytes, limits: ImageLimits) -> Image.Image:
    """As `pixel_decoding.decode`, in a helper process, for at most `limits.decode_seconds`. Raises `ImageError`."""
    with _helpers.borrowed() as helper:
        return helper.decode(data, limits)


class _Helper:
    """A process that runs `serve`."""

    def __init__(self) -> None:
        # Its own path is ours; of the current folder and PYTHON… variables it takes nothing (-I).
        start = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        command = [sys.executable or "python3", "-I", "-c", start]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)
        except OSError as error:
            raise ImageError(f"no process could be started to decode it ({reason(error)})") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        try:
            with self._ended_after(_START_SECONDS, "no process could be started to decode it"):
                self._read(1)
        except ImageError:
            self.end()
            raise

    def decode(self, data: bytes, limits: ImageLimits) -> Image.Image:
        seconds = min(limits.decode_seconds, _MAX_SECONDS)
        too_long = (
            f"decoding it took longer than {seconds:g} seconds, the limit for images that come from elsewhere; "
            "use a smaller image or another format, or raise ImageLimits.decode_seconds"
        )
        asked = json.dumps(asdict(limits)).encode()
        with self._ended_after(seconds, too_long):
            self._to.write(_REQUEST.pack(len(asked), len(data)) + asked)
            self._to.write(data)
            self._to.flush()
            (length,) = _ANSWER.unpack(self._read(_ANSWER.size))
            answer = json.loads(self._read(min(length, _MAX_ANSWER)))
            width, height = answer.get("size", (0, 0))
            if min(width, height) < 0 or width * height > limits.max_pixels:
                raise EOFError
            pixels = self._read(3 * width * height)
        if error := answer.get("error"):
            raise ImageError(str(error))
        return Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", 0, 1)

    def _read(self, size: int) -> bytes:
        data = self._from.read(size)
        if len(data) < size:
            raise EOFError
        return data

    @contextmanager
    def _ended_after(self, seconds: float, too_long: str) -> Iterator[None]:
        """Ends the process after `seconds`; what is waited for then raises `ImageError`."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, EOFError, ValueError, TypeError, AttributeError, struct.error) as error:
            crashed = "the decoder crashed on it; save the image anew or in another format"
            raise _EndedError(too_long if late.is_set() else crashed) from error
        finally:
            timer.cancel()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        with suppress(OSError):  # what it did not take
            self._to.close()
        self._from.close()
        self._process.wait()


class _EndedError(ImageError):
    """The helper is no more."""


class _Helpers:
    """Helpers that wait for work. Thread-safe; a forked process has none of its parent's."""

    def __init__(self) -> None:
        self._lock, self._turns = threading.Lock(), threading.BoundedSemaphore(MOST)
        self._idle: list[_Helper] = []

    @contextmanager
    def borrowed(self) -> Iterator[_Helper]:
        with self._turns:
            helper = self._taken()
            try:
                yield helper
            except BaseException as error:
                if type(error) is not ImageError:  # it ended, or an answer is still on its way
                    helper.end()
                    raise
                self._give_back(helper)
                raise
            self._give_back(helper)

    def _taken(self) -> _Helper:
        while True:
            with self._lock:
                helper = self._idle.pop() if self._idle else None
            if helper is None:
                return _Helper()
            if helper.is_alive:
                return helper
            helper.end()

    def _give_back(self, helper: _Helper) -> None:
        with self._lock:
            self._idle.append(helper)

    def end(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for helper in idle:
            helper.end()


_helpers = _Helpers()
atexit.register(lambda: _helpers.end())


def _forget() -> None:
    global _helpers
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def serve() -> None:
    """Answer requests on stdin until it closes: the helper process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    Image.init()
    formats()
    answers.write(b"\1")
    answers.flush()
    while header := asked.read(_REQUEST.size):
        length, size = _REQUEST.unpack(header)
        limits = ImageLimits(**json.loads(asked.read(length)))
        answer, pixels = _answer(asked.read(size), limits)
        encoded = json.dumps(answer).encode()
        answers.write(_ANSWER.pack(len(encoded)) + encoded)
        answers.flush()
        answers.write(pixels)
        answers.flush()


def _answer(data: bytes, limits: ImageLimits) -> tuple[dict[str, object], bytes]:
    _bound_memory(limits)
    if hasattr(signal, "alarm"):  # should nobody be left to end it
        signal.alarm(math.ceil(min(limits.decode_seconds, _MAX_SECONDS)) + 1)
    try:
        image = decode(data, limits)
        return {"size": image.size}, image.tobytes()
    except ImageError as error:
        return {"error": str(error)[:1000]}, b""
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _bound_memory(limits: ImageLimits) -> None:
    """Room for the program, some copies of the file, and the pixels in 32 bytes each, as float and alpha need."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = 2**30 + 4 * limits.max_bytes + 32 * limits.max_pixels
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
