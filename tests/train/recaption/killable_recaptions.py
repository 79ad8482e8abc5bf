"""Recaptioning in processes that can be killed: `python killable_recaptions.py`, then on stdin a JSON object for each.

Each run is a process of its own, forked from this one, which holds the models: so it need not load them anew. Its
number is printed as it starts; {"wait": NUMBER} prints the wait status at its end. Keys of a run: "settings" of
`RecaptionSettings`, "deny" words, "file_size" (bytes that a file may have at most).
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
from pathlib import Path

from textlens.encoders import registry
from textlens.errors import InputError
from textlens.train.recaption import engines, part_worker, recaption
from textlens.train.recaption.caption_checks import Checks

engines._PAUSE = 0.05
part_worker.load_encoder = functools.cache(lambda spec, device: registry.load_encoder(spec, device=device))
part_worker.load_encoder("scenes:coca", None)


def run(told: dict) -> int:
    if "file_size" in told:
        resource.setrlimit(resource.RLIMIT_FSIZE, (told["file_size"], told["file_size"]))
    settings = {**told["settings"], "folder": Path(told["settings"]["folder"]), "checks": Checks(told.get("deny", ()))}
    try:
        made = recaption.recaption(recaption.RecaptionSettings(**settings))
    except InputError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    return 1 if made.problems else 0


if __name__ == "__main__":
    for line in sys.stdin:
        told = json.loads(line)
        if "wait" in told:
            print(os.waitpid(told["wait"], 0)[1], flush=True)
            continue
        if (process := os.fork()) == 0:
            status = 3
            try:
                status = run(told)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        print(process, flush=True)
