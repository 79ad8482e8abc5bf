"""How long a reader of `textlens web` waits: seconds from the command to the page, to first words and answers.

    python benchmarks/web_page.py [IMAGE] [--encoder coca --encoder tags] [--llm gemma] [--json]

Cold: a new process, so models load at first use. Then the same again with another image and question: warm.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import textlens

ROOT = Path(textlens.__file__).parent
PHOTOS = [ROOT / "examples" / "photos" / name for name in ("brown-dog.jpg", "cyclists.jpg")]
COMMAND = [sys.executable, "-c", "from textlens.cli import main; main()", "web", "--port", "0"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT.parent)}


@contextmanager
def served(arguments: list[str]) -> Iterator[str]:
    """The address of a new server."""
    process = subprocess.Popen([*COMMAND, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def measure(arguments: list[str], images: list[Path]) -> dict[str, float]:
    """What was waited for -> seconds."""
    found: dict[str, float] = {}
    begun = time.perf_counter()
    with served(arguments) as url, httpx.Client(base_url=url, timeout=600) as client:

        def done(what: str, path: str, **request: Any) -> Any:
            nonlocal begun
            answer = client.request("POST" if request else "GET", path, **request).raise_for_status()
            found[what], begun = time.perf_counter() - begun, time.perf_counter()
            return answer

        done("page, from the command", "/")
        for when, image in zip(("cold", "warm"), images, strict=True):
            name = done(f"upload, {when}", "/api/images", content=image.read_bytes()).json()["image"]
            done(f"words, {when}", "/api/describe", json={"image": name})
            question = {"image": name, "question": "What is in the picture?"}
            done(f"answer, {when}", "/api/ask", json=question)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="*", type=Path, help="two images, the first one cold")
    parser.add_argument("--encoder", action="append", default=[])
    parser.add_argument("--llm")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if len(given.image) not in (0, 2):
        parser.error(f"got {len(given.image)} images; expected two, or none for the included photographs")
    arguments = [part for spec in given.encoder for part in ("--encoder", spec)]
    arguments += ["--llm", given.llm] if given.llm else []
    found = measure(arguments, given.image or PHOTOS)
    if given.json:
        print(json.dumps(found))
        return
    for what, seconds in found.items():
        print(f"{what:24} {seconds:7.2f} s")


if __name__ == "__main__":
    main()
