"""Fréchet distance between two sets of features, as in FID (Heusel et al. 2017, arXiv 1706.08500).

It is called FID only of the features of one Inception network; of any others, name them beside the number.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between the normal distributions of features (N, D) and (M, D): |m - m'|² + tr(C + C' - 2 (C C')^½)."""
    means = [features.double().mean(0) for features in (one, other)]
    covariances = [features.double().T.cov() for features in (one, other)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The eigenvalues of C C' are those of C^½ C' C^½, which is symmetric.
    crossed = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    return float((means[0] - means[1]).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * crossed)
