"""What loading a folder of strangers may raise: `InputError` that names the folder, whatever libraries say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError, TextlensError, shortened


@contextmanager
def loading(where: str | Path, kind: str) -> Iterator[None]:
    """Turn any exception of the block into an `InputError` that names `where`: libraries raise almost anything for
    configs, tokenizers and weights that do not fit."""
    try:
        yield
    except InputError as error:
        if str(where) in str(error):
            raise
        raise InputError(f"{where}: {error}") from error
    except TextlensError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {shortened(error, 400)}"
        raise InputError(f"{where} does not load as {kind}: {what}") from error


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `InputError` for NaN or infinity in the weights of a model: it would write fluent nonsense.

    Where the model itself holds infinity before it is filled, as attention masks do, it may stand.
    """
    own = model.state_dict()
    odd = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    bad = [name for name in odd if name not in own or is_finite(own[name]) or not is_finite(tensors[name], True)]
    if bad:
        raise InputError(
            f"{where}: {len(bad)} of {len(tensors)} tensors hold NaN or infinity, such as {bad[0]}; the training that "
            "made them went wrong, or the file is damaged: save or download it again"
        )


def is_finite(tensor: Tensor, infinite: bool = False) -> bool:
    """Whether a tensor has no NaN, nor infinity unless allowed; one pass, no copy."""
    if not tensor.is_floating_point() or not tensor.numel() or tensor.dtype.itemsize == 1:
        return True
    ends = torch.stack(torch.aminmax(tensor.detach()))  # NaN if there is one
    return not bool(ends.isnan().any()) if infinite else bool(ends.isfinite().all())
