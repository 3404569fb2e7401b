"""Temporal neighbourhood coding: tell the neighbour of a crop from a distant one. [TNC, V22]

[TNC] Tonekaboni, Eytan, Goldenberg, arXiv 2106.00750. [V22] Lee et al., VNIbCReg, arXiv 2204.02697.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Discriminator(nn.Module):
    """Score whether two representations (B, D) come from neighbouring crops: logits (B,). [TNC, section 3]"""

    def __init__(self, input_size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * input_size, 4 * input_size), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4 * input_size, 1)
        )
        for layer in (self.layers[0], self.layers[-1]):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, y: Tensor, y_other: Tensor) -> Tensor:
        """Map two batches of representations (B, D) to logits (B,)."""
        return self.layers(torch.cat([y, y_other], dim=-1)).squeeze(-1)


def tnc_loss(
    discriminator: nn.Module, y: Tensor, y_l: Tensor, y_k: Tensor, use_diag_loss: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of an anchor y, a neighbour y_l and a distant crop y_k, all (B, D), and its parts. [V22]

    BCE(D(y, y_l), 1) + BCE(D(y, y_k), 0); ``use_diag_loss`` adds mean (1 - c_p)^2 + mean c_n^2, where c_p and c_n are the
    correlations over features of each sample of y with y_l and y_k. Parts: both terms and the discriminator's accuracy.
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
