"""Models are never built larger than the weights that are to fill them, whatever their config says.

A config file of some bytes may ask for 100,000 layers, or a vocabulary of 10^9. The shapes in the header of the weights
file are true, because its length follows from them; so they decide how much may be made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from ...errors import InputError
from ...input_files import check_regular

Shapes = Mapping[str, Sequence[int]]
SIZED = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.eye)
# Masks, position tables, heads that are exchanged: what a model makes besides its weights, and weights made twice.
SPARE_ELEMENTS, SPARE_TENSORS, TIMES = 50_000_000, 2_000, 4
PACKED = 8  # elements of a weight that stand in one of the file, in 4-bit quantisation


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors in a safetensors file, from its header alone. Raises `InputError`."""
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read, missing or damaged ({error}); expected safetensors") from error


def folder_shapes(folder: str | Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes of all safetensors in a folder and the folders in it; None for a hub id, or where there are none."""
    files = sorted(Path(folder).rglob("*.safetensors")) if Path(folder).is_dir() else []
    return {f"{file}:{name}": shape for file in files for name, shape in tensor_shapes(file).items()} or None


@contextmanager
def no_larger_than(shapes: Shapes | None, where: str | Path, *, packed: bool = False) -> Iterator[None]:
    """Raise `InputError` as soon as the block makes many more tensors, or elements, than the weights have.

    shapes: of the weights; None for no limit. where: begins the error. packed: the weights may be quantised.
    """
    if shapes is None:
        yield
        return
    elements = sum(math.prod(shape) for shape in shapes.values())
    times = TIMES * (PACKED if packed else 1)
    with _Limit(elements * times + SPARE_ELEMENTS, len(shapes) * times + SPARE_TENSORS, where):
        yield


class _Limit(TorchFunctionMode):
    """Counts what is made, before it is."""

    def __init__(self, elements: int, tensors: int, where: str | Path) -> None:
        super().__init__()
        self.elements, self.tensors, self.where = elements, tensors, where

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in SIZED:
            self.elements -= _elements(args, kwargs or {})
            self.tensors -= 1
            if self.elements < 0 or self.tensors < 0:
                raise InputError(
                    f"{self.where}: the config describes a model far larger than its weights; expected the config that "
                    "was saved with them"
                )
        return func(*args, **(kwargs or {}))


def _elements(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Of the tensor that a function of `SIZED` makes; 0 for sizes that it will refuse itself."""
    size = kwargs.get("size", args)
    flat: Iterable[Any] = size[0] if len(size) and isinstance(size[0], Sequence) else size
    numbers = [number for number in flat if isinstance(number, int) and number > 0]
    return math.prod(numbers) if numbers else 0
