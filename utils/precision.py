"""Choice of the numerical precision for training, prediction and benchmarks."""

import logging
from typing import TYPE_CHECKING, Any

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
    """Return the precision to compute in: ``wanted``, or the choice of ``auto`` for this device.

    ``auto`` is bf16-mixed if the device is faster in bf16 and ``against_bf16`` (a reason in words)
    is empty, else 32-true. Logs the choice of ``auto``; warns if bf16 is emulated.
    """
    name = "GPU" if device.type == "cuda" else "CPU"
    if wanted == "auto":
        if not has_bf16(device):
            against_bf16 = f"this {name} has no units for bf16"
        elif not _bf16_is_faster(device):
            against_bf16 = f"this {name} has units for bf16, but is not faster with them"
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
    """Return whether a device computes bf16 in hardware instead of emulating it."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(_cpu_capabilities().get(unit) for unit in CPU_UNITS)


def _bf16_is_faster(device: "torch.device") -> bool:
    """Return whether a device that has units for bf16 computes faster in bf16.

    Intel's AVX-512 units for bf16 are not faster than those for float32, and conversions come on
    top: our networks take 1.1 to 1.6 times as long. AMD's are, and so is Intel's AMX.
    """
    if device.type == "cuda":
        return True
    cpu = _cpu_capabilities()
    only_avx512 = not any(cpu.get(unit) for unit in CPU_UNITS if unit != "avx512_bf16")
    return not (only_avx512 and str(cpu.get("cpu_name", "")).startswith("Intel"))


def _cpu_capabilities() -> dict[str, Any]:
    import torch

    return getattr(torch.cpu, "get_capabilities", dict)()
