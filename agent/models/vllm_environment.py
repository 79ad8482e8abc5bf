"""Finds vLLM on this machine: the GPU package in this environment, or the CPU package in `.venv-vllm` (`make vllm`)."""

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
    """An environment with vLLM."""

    python: str  # its interpreter
    cpu: bool  # whether it is the CPU package

    def command(self, model: str, name: str, port: int, arguments: Sequence[str] = ()) -> list[str]:
        """The command that serves `model` under `name`; `arguments` are vLLM flags that override ours."""
        # The CPU package has no working `vllm` command: it looks for the version of a package named vllm.
        start = (
            ["vllm.entrypoints.openai.api_server", "--model"] if self.cpu else ["vllm.entrypoints.cli.main", "serve"]
        )
        flags = ["--served-model-name", name, "--host", HOST, "--port", str(port)]
        # Prefixes are shared in whole blocks, by default of 128 tokens on a CPU.
        flags += ["--dtype", _cpu_dtype(), "--block-size", "32"] if self.cpu else []
        return [self.python, "-m", *start, model, *flags, *arguments]

    def variables(self, *, offline: bool) -> dict[str, str]:
        """The environment variables for vLLM: our defaults, overridden by those that are set."""
        defaults = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        defaults |= {"VLLM_CPU_KVCACHE_SPACE": "2"} if self.cpu else {}  # GiB; vLLM's default is most of the memory
        defaults |= {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"} if self.cpu and _few_cores() else {}
        defaults |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        return {**defaults, **os.environ}


def _few_cores() -> bool:
    """Whether the core that vLLM reserves for its scheduler would be half of all: without that, Gemma 3 270M answered
    900 prompts with 16 shots in 46 s, and with it in 66 s, on two cores."""
    return len(os.sched_getaffinity(0)) <= 2


def _cpu_dtype() -> str:
    """bfloat16 where the CPU multiplies it: without, Gemma 3 270M answered 0.9 prompts/s in it and 5.6 in float32."""
    import torch

    from ...encoders.clip.frozen_trunk import bf16_is_fast

    return "bfloat16" if bf16_is_fast(torch.device("cpu")) else "float32"


def find_vllm(python: str | None = None) -> Vllm:
    """The vLLM of the interpreter `python`, by default $TEXTLENS_VLLM_PYTHON; without either, the first that works of
    this environment, the checkout's `.venv-vllm`, and `.venv-vllm` in the current folder.

    Raises `InputError` if none works, with the reasons.
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
    """The device type of that interpreter's vLLM: "cpu", "cuda", … Raises `InputError` if it has none."""
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
