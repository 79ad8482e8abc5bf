"""Which vLLM there is on this machine, and the command that serves a model with it.

vLLM may be the package for GPUs, in the project's own environment, or the one for CPUs, in `.venv-vllm` (`make vllm`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError

PYTHON = "TEXTLENS_VLLM_PYTHON"
HOST = "127.0.0.1"

_ENVIRONMENT = Path(".venv-vllm", "bin", "python")
_DEVICE = "from vllm.platforms import current_platform; print('device:', current_platform.device_type)"


@dataclass(frozen=True)
class Vllm:
    """python: of an environment that holds vLLM. cpu: whether that vLLM is the one for CPUs."""

    python: str
    cpu: bool

    def command(self, model: str, name: str, port: int, arguments: Sequence[str] = ()) -> list[str]:
        """The command that serves `model` under `name`; `arguments` are vLLM's own, and win over ours."""
        # The package for CPUs has no working `vllm` command: that looks for the version of a package named vllm.
        start = (
            ["vllm.entrypoints.openai.api_server", "--model"] if self.cpu else ["vllm.entrypoints.cli.main", "serve"]
        )
        flags = ["--served-model-name", name, "--host", HOST, "--port", str(port)]
        # Prefixes are shared in whole blocks, which hold 128 tokens by default on a CPU.
        flags += ["--dtype", "bfloat16", "--block-size", "32"] if self.cpu else []
        return [self.python, "-m", *start, model, *flags, *arguments]

    def variables(self, *, offline: bool) -> dict[str, str]:
        """Our environment variables and what vLLM is told that way; one that is set already stays as it is."""
        told = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        told |= {"VLLM_CPU_KVCACHE_SPACE": "2"} if self.cpu else {}  # GiB; its own choice is most of the memory
        told |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        return {**told, **os.environ}


def find_vllm(python: str | None = None) -> Vllm:
    """The vLLM of the interpreter `python`; by default of $TEXTLENS_VLLM_PYTHON, else of this environment, of the
    checkout's `.venv-vllm`, or of `.venv-vllm` in the current folder, whichever can serve here first.

    Raises `InputError` where none can, saying why.
    """
    named = python or os.environ.get(PYTHON)
    here = [str(folder / _ENVIRONMENT) for folder in (Path(__file__).parents[2], Path.cwd())]
    reasons = []
    for candidate in [named] if named else dict.fromkeys([sys.executable, *here]):
        try:
            device = _device(candidate)
        except InputError as error:
            reasons.append(f"{candidate}: {error}")
        else:
            return Vllm(candidate, cpu=device == "cpu")
    raise InputError(
        f"found no vLLM that can serve here ({'; '.join(reasons)}); with a GPU: `pip install 'textlens[vllm]'`; "
        f"on a CPU: `make vllm` in the checkout, or name the Python of an environment with vLLM (--python, or {PYTHON})"
    )


def _device(python: str) -> str:
    """What the vLLM of that interpreter computes on: "cpu", "cuda", … Raises `InputError` where it cannot."""
    try:
        done = subprocess.run([python, "-c", _DEVICE], capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"does not run ({error})" if Path(python).exists() else "is not there") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError("has no vLLM" if "No module named 'vllm'" in last else f"cannot import vLLM ({last[:300]})")
    device = done.stdout.rpartition("device:")[2].strip()
    if not device:
        raise InputError("has the vLLM for GPUs, which sees none here")
    return device
