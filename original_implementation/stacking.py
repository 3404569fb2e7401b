"""Input of the previous study: one trace per event, the weighted stack of its channels.

[LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023, as described in [L22]. Everything else
is shared with ``models.event_network``.
"""

import torch
from torch import Tensor, nn

from models.event_network import EventNetwork
from original_implementation.networks import build_backbone_with_clf


def stack_channels(waveforms: Tensor, filtered: Tensor | None = None) -> Tensor:
    """Stack channels (…, S, T) to one trace (…, T). [LS23]

    Weights are 1 / std, normalised to a sum of 1; a constant channel has weight 0. The std is that
    of the ``filtered`` waveforms (…, S, T), if the images are made of such.
    """
    waveforms = waveforms.float()
    spread = (waveforms if filtered is None else filtered).std(-1, keepdim=True)
    # compared by range: the std of a constant channel may round to above 0
    live = waveforms.amax(-1, keepdim=True) > waveforms.amin(-1, keepdim=True)
    weights = torch.where(live, 1 / spread, 0)
    weights = weights / weights.sum(-2, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (weights * waveforms).sum(-2)


class StackedTraceNetwork(EventNetwork):
    """Network of stacked traces: AlexNet or a max-pooling ResNet. [LS23 as in L22]"""

    trace_kind = "stacked_trace"

    @staticmethod
    def build_network(
        backbone_type: str,
        stem_stride: int,  # noqa: ARG004
        n_classes: int,
    ) -> tuple[nn.Module, nn.Module]:
        """Return a network (N, 1, H, W) -> (N, K) that includes the classifier, and an identity.

        ``stem_stride`` has no effect: these networks keep their published first convolution.
        """
        return build_backbone_with_clf(backbone_type, n_classes), nn.Identity()

    def traces(self, waveforms: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Stack the live channels of (B, S, T) to one trace (B, 1, T), with its mask (B, 1)."""
        chosen = waveforms * mask[..., None]
        # the stack is filtered when its image is made
        stacked = stack_channels(chosen, self.spectrogram.filtered(chosen)).unsqueeze(1)
        return stacked, mask.any(-1, keepdim=True)
