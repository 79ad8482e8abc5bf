"""How a server is found, started and ended. A stand-in for vLLM shows the faults; test_vllm_*.py have real vLLM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from textlens.agent.models import serving as module
from textlens.agent.models.registry import LANGUAGE_MODELS
from textlens.agent.models.serving import ServingError, serving
from textlens.agent.models.vllm_environment import PYTHON, Vllm, find_vllm
from textlens.errors import InputError

CLI = [sys.executable, "-c", "from textlens.cli import main; main()", "serve-llm"]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A path to give for the Python of vLLM's environment."""
    monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # for logs
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "stand_in_vllm.py"} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "some-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def running(folder: Path) -> list[int]:
    """Those of the stand-in's processes that run (one that nobody has waited for runs no more)."""
    found = []
    for pid in map(int, (folder / "pids").read_text().split()):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [pid] if state != "Z" else []
    return found


def all_end(folder: Path, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while running(folder) and time.monotonic() < end:
        time.sleep(0.05)
    return not running(folder)


def test_the_server_runs_as_long_as_the_context(stand_in, model, tmp_path):
    said: list[str] = []
    with serving(model, python=stand_in, say=said.append) as address:
        assert httpx.get(address.removesuffix("/v1") + "/health", trust_env=False).is_success
        assert len(running(tmp_path)) == 2
    assert all_end(tmp_path)
    log = Path(said[0].rpartition(" ")[2])
    assert "some-model on a CPU" in said[0]
    assert not log.exists()


def test_it_ends_when_the_work_fails_and_by_force_if_need_be(stand_in, model, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "stubborn")
    monkeypatch.setattr(module, "STOP_SECONDS", 0.3)
    with pytest.raises(KeyError), serving(model, python=stand_in):
        raise KeyError
    assert all_end(tmp_path)


def test_a_server_that_dies_at_the_start_is_an_error_with_the_end_of_its_log(stand_in, model, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "dies")
    with (
        pytest.raises(
            ServingError, match=r"exit code 1(?s:.*)OSError: the weights are cut short\nRuntimeError: see root"
        ),
        serving(model, python=stand_in),
    ):
        pass
    assert all_end(tmp_path)


def test_a_server_that_never_answers_is_an_error(stand_in, model, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "silent")
    with (
        pytest.raises(ServingError, match=r"within 1 seconds(?s:.*)loading"),
        serving(model, python=stand_in, startup_seconds=1),
    ):
        pass
    assert all_end(tmp_path)


def test_no_process_is_left_where_ours_is_killed(stand_in, model, tmp_path):
    code = (
        "import sys, time\nfrom textlens.agent.models.serving import serving\n"
        "with serving(sys.argv[1], python=sys.argv[2]) as address:\n    print(address, flush=True)\n"
        "    time.sleep(1000)"
    )
    command = [sys.executable, "-c", code, str(model), stand_in]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert len(running(tmp_path)) == 2
        process.kill()
    assert all_end(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_the_address_and_ends_at_a_signal(stand_in, model, tmp_path, number):
    command = [*CLI, "--model", str(model), "--port", "0", "--python", stand_in, "--", "--max-model-len", "512"]
    # As a shell starts what runs in the background.
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **ignoring) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert httpx.get(address.removesuffix("/v1") + "/health", trust_env=False).is_success
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")
    assert f"--llm {address}" in errors
    assert "Traceback" not in errors
    assert all_end(tmp_path)


@pytest.mark.parametrize(("fault", "message"), [("dies", "weights are cut short"), ("dies later", "out of memory")])
def test_the_command_ends_with_2_where_the_server_dies(stand_in, model, tmp_path, monkeypatch, fault, message):
    monkeypatch.setenv("STAND_IN", fault)
    command = [*CLI, "--model", str(model), "--port", "0", "--python", stand_in]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert all_end(tmp_path)


def test_a_port_that_is_taken_is_a_clear_error(stand_in, model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port} cannot be used(?s:.*)0 for a free one"),
            serving(model, port=port, python=stand_in),
        ):
            pass
    with pytest.raises(InputError, match="port 70000 cannot be used"), serving(model, port=70000, python=stand_in):
        pass


def test_what_is_no_model_is_a_clear_error(stand_in, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "missing", "./missing", "a/b/c"):
        with pytest.raises(InputError, match="no folder of a language model"), serving(wrong, python=stand_in):
            pass
    monkeypatch.setitem(LANGUAGE_MODELS, "tiny", replace(LANGUAGE_MODELS["tiny"], default=str(tmp_path)))
    with pytest.raises(InputError, match="small language model is not there"), serving(python=stand_in):
        pass


def test_the_vllm_that_is_there_is_found_and_why_none_serves_is_said(stand_in, tmp_path, monkeypatch):
    assert find_vllm(stand_in) == Vllm(stand_in, cpu=True)
    monkeypatch.setenv(PYTHON, stand_in)
    monkeypatch.setenv("STAND_IN", "GPU")
    assert find_vllm() == Vllm(stand_in, cpu=False)
    for fault, reason in (("no GPU", "sees none here"), ("broken", r"cannot import vLLM \(ImportError: libcudart")):
        monkeypatch.setenv("STAND_IN", fault)
        with pytest.raises(InputError, match=f"{reason}(?s:.*)make vllm"):
            find_vllm()
    with pytest.raises(InputError, match="is not there"):
        find_vllm(str(tmp_path / "nowhere"))
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'vllm'\" >&2\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(InputError, match="has no vLLM"):
        find_vllm(str(bare))


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_commands_for_gpu_and_cpu(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    for name in ("VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE", "VLLM_CPU_NUM_OF_RESERVED_CPU"):
        monkeypatch.delenv(name, raising=False)
    gpu, cpu = Vllm("py", cpu=False), Vllm("py", cpu=True)
    assert gpu.command("org/model", "org/model", 8000, ["--max-model-len", "4096"]) == [
        *("py", "-m", "vllm.entrypoints.cli.main", "serve", "org/model", "--served-model-name", "org/model"),
        *("--host", "127.0.0.1", "--port", "8000", "--max-model-len", "4096"),
    ]
    assert cpu.command("/a b/model", "model", 8000) == [
        *("py", "-m", "vllm.entrypoints.openai.api_server", "--model", "/a b/model", "--served-model-name", "model"),
        *("--host", "127.0.0.1", "--port", "8000", "--dtype", dtype, "--block-size", "32"),
    ]
    told = cpu.variables(offline=True)
    assert (told["VLLM_CPU_KVCACHE_SPACE"], told["HF_HUB_OFFLINE"], told["VLLM_NO_USAGE_STATS"]) == ("2", "1", "1")
    assert told["PATH"] == os.environ["PATH"]
    assert not {"VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"} & set(gpu.variables(offline=False))
    for cores, reserved in (({0, 1}, "0"), ({0, 1, 2}, None)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: cores)
        assert cpu.variables(offline=False).get("VLLM_CPU_NUM_OF_RESERVED_CPU") == reserved
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "8")
    assert cpu.variables(offline=False)["VLLM_CPU_KVCACHE_SPACE"] == "8"
