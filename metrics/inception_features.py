"""Features of FID's Inception network (Heusel et al. 2017, arXiv 1706.08500), by `torch-fidelity`.

The weights are the TensorFlow ones of 2015 in torch-fidelity's format, `weights-inception-2015-12-05-6726825d.pth`:
https://github.com/toshas/torch-fidelity/releases. They are read from a file; nothing is downloaded.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ..errors import InputError
from ..input_files import check_regular


class InceptionFeatures:
    """RGB images of any sizes -> (N, 2048) float32, on the CPU.

    Raises `InputError` without the package, and for a file that is missing or holds other weights.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        if find_spec("torch_fidelity") is None:
            raise InputError("FID needs the package torch-fidelity; install it with: pip install 'textlens[fid]'")
        check_regular(weights)
        expected = "expected torch-fidelity's weights-inception-2015-12-05-6726825d.pth"
        try:
            torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity itself would run any pickle
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
        except (RuntimeError, pickle.UnpicklingError, EOFError, TypeError, AttributeError, OSError) as error:
            raise InputError(f"cannot read {weights} as Inception's weights; {expected}: {str(error)[:200]}") from error
        self._network, self._device = network.to(device), device

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image]) -> Tensor:
        parts = [self._network(pil_to_tensor(image.convert("RGB"))[None].to(self._device))[0].cpu() for image in images]
        return torch.cat(parts) if parts else torch.zeros(0, 2048)
