"""Losses of self-supervised learning: invariance, variance, covariance, TNC. [V21, V22, VIC, TNC]

[V21] Lee & Aune, VIbCReg, arXiv 2109.00783. [V22] Lee et al., VNIbCReg, arXiv 2204.02697. [VIC]
Bardes, Ponce, LeCun, VICReg, arXiv 2105.04906. [TNC] Tonekaboni, Eytan, Goldenberg, arXiv
2106.00750. All losses compute in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STD_TARGET = 1.0
STD_EPS = 1e-4


def invariance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared difference of two batches of projections (B, D). [VIC, eq. 5]"""
    return F.mse_loss(z_a.float(), z_b.float())


def variance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return mean(max(0, 1 - std)) over the D features, summed over both (B, D). [VIC, eq. 1–2]

    Raises ``ValueError`` for a batch of one.
    """
    return _std_shortfall(z_a) + _std_shortfall(z_b)


def covariance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared off-diagonal correlation of features, summed over both (B, D). [V21]

    Raises ``ValueError`` for a batch of one.
    """
    return _off_diagonal_correlation(z_a) + _off_diagonal_correlation(z_b)


def _std_shortfall(z: Tensor) -> Tensor:
    _require_batch(z)
    return F.relu(STD_TARGET - torch.sqrt(z.float().var(0) + STD_EPS)).mean()


def _off_diagonal_correlation(z: Tensor) -> Tensor:
    _require_batch(z)
    n, d = z.shape
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        z = F.normalize(z - z.mean(0), dim=0)
        # ||Z'Z||_F = ||ZZ'||_F: take the smaller matrix
        gram = z @ z.T if n < d else z.T @ z
        diagonal = z.square().sum(0).square().sum()
        return (gram.square().sum() - diagonal) / d**2


def _require_batch(z: Tensor) -> None:
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"projections must be (B, D) with B > 1 but found {tuple(z.shape)}")


def tnc_loss(
    discriminator: nn.Module, y: Tensor, y_l: Tensor, y_k: Tensor, use_diag_loss: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the temporal neighbourhood loss and its parts. [V22]

    ``y``, ``y_l`` and ``y_k`` (B, D) are representations of anchor, neighbour and distant crop. The
    loss is BCE(D(y, y_l), 1) + BCE(D(y, y_k), 0) with the discriminator D. ``use_diag_loss`` adds
    mean((1 - c_p)^2) + mean(c_n^2), where c_p and c_n are the correlations over features of each
    sample of y with y_l and y_k. The parts are both terms and the accuracy of the discriminator.
    """
    near, far = discriminator(y, y_l).float(), discriminator(y, y_k).float()
    bce = F.binary_cross_entropy_with_logits(near, torch.ones_like(near))
    bce = bce + F.binary_cross_entropy_with_logits(far, torch.zeros_like(far))
    accuracy = torch.cat([near > 0, far <= 0]).float().mean()
    parts = {"tnc_bce": bce, "tnc_accuracy": accuracy}
    if not use_diag_loss:
        return bce, parts
    diag = (1 - pearson(y, y_l)).square().mean() + pearson(y, y_k).square().mean()
    return bce + diag, parts | {"tnc_diag": diag}


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation over features of each sample: (B, D), (B, D) -> (B,), float32."""
    a, b = (F.normalize(x.float() - x.float().mean(-1, keepdim=True), dim=-1) for x in (a, b))
    return (a * b).sum(-1)
