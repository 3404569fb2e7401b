"""Which precision to compute in: one rule for training, prediction and benchmarks."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
# as PyTorch calls them; the last two are ARM's
CPU_UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
# Lightning computes 16-mixed on a CPU in bf16
IN_BF16 = {("bf16-mixed", "CPU"), ("16-mixed", "CPU"), ("bf16-mixed", "GPU")}
# CPUs with AVX2: matrix products at 0.7 GFLOP/s against 24 in float32, and at 1.2 against 48
SLOW = {"CPU": "takes about thirty times as long as 32-true", "GPU": "is emulated, and slow"}


def choose_precision(wanted: str, device: "torch.device", against_bf16: str = "") -> str:
    """Return the precision to compute in: what is wanted, or what ``auto`` stands for on a device.

    ``auto`` is bf16-mixed where the device has units for it, else 32-true; a reason
    ``against_bf16`` makes it 32-true, too. Says what ``auto`` stands for, and warns of bf16
    without units.
    """
    name = "GPU" if device.type == "cuda" else "CPU"
    if wanted == "auto":
        if not has_bf16(device):
            against_bf16 = f"this {name} has no units for bf16"
        wanted = "32-true" if against_bf16 else "bf16-mixed"
        reason = against_bf16 or f"this {name} has units for bf16"
        log.info("precision auto: %s (%s)", wanted, reason)
    elif (wanted, name) in IN_BF16 and not has_bf16(device):
        log.warning(
            "precision: %s on a %s without units for bf16 %s; use auto, or 32-true",
            wanted,
            name,
            SLOW[name],
        )
    return wanted


def has_bf16(device: "torch.device") -> bool:
    """Tell whether a device has units that compute in bf16, so that it need not emulate them."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit) for unit in CPU_UNITS)
