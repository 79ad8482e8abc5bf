"""Stands in for the Python of an environment with vLLM, where a real server would take a minute to show one fault.

`-c` answers what the device is; `-m` starts a process of its own, as vLLM does, and answers /health. $STAND_IN tells
what goes wrong, $STAND_IN_PIDS is the file for the numbers of the processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()


def serve(arguments: list[str], fault: str) -> None:
    # As vLLM's processes do, it ends once it hears no more from the first; a stubborn one does not.
    child = subprocess.Popen(["sleep", "1000"] if fault == "stubborn" else ["cat"], stdin=subprocess.PIPE)
    Path(os.environ["STAND_IN_PIDS"]).write_text(f"{os.getpid()} {child.pid}")
    print("loading", " ".join(arguments), flush=True)
    if fault == "dies":
        print("(Worker pid=1) ERROR 01-01 [executor.py:1] OSError: the weights are cut short")
        print("  File x.py, line 1\n" * 30)
        sys.exit("RuntimeError: see root cause above")
    if fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if fault == "silent":
        time.sleep(1000)
    port = int(arguments[arguments.index("--port") + 1])
    server = HTTPServer(("127.0.0.1", port), Healthy)
    if fault == "dies later":
        server.timeout = 1.0
        for _ in range(2):
            server.handle_request()
        sys.exit("out of memory")
    server.serve_forever()


if __name__ == "__main__":
    wrong = os.environ.get("STAND_IN", "")
    if sys.argv[1] == "-c":
        if wrong == "broken":
            sys.exit("ImportError: libcudart.so.13: cannot open shared object file")
        print("device:", {"no GPU": "", "GPU": "cuda"}.get(wrong, "cpu"))
    else:
        serve(sys.argv[2:], wrong)
