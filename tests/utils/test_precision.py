import contextlib
import logging

import pytest
import torch

from utils.precision import choose_precision, has_bf16

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
OLD_CPU = {"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}


@pytest.fixture
def machine(monkeypatch):
    """Make this machine one with certain units."""

    def make(cpu: dict, gpu: bool = False) -> None:
        def supported(including_emulation: bool = True) -> bool:
            return gpu or including_emulation

        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())

    return make


@pytest.mark.parametrize("unit", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_auto_is_bf16_where_there_are_units(machine, caplog, unit):
    caplog.set_level("INFO")
    machine({unit: True, "avx2": True})
    assert choose_precision("auto", CPU) == "bf16-mixed"
    assert caplog.messages == ["precision auto: bf16-mixed (this CPU has units for bf16)"]


def test_auto_is_float32_without_units_or_with_a_reason(machine, caplog):
    caplog.set_level("INFO")
    machine(OLD_CPU)
    assert not has_bf16(CPU) and choose_precision("auto", CPU) == "32-true"
    machine({"avx512_bf16": True})
    assert choose_precision("auto", CPU, "images are too small") == "32-true"
    assert caplog.messages == [
        "precision auto: 32-true (this CPU has no units for bf16)",
        "precision auto: 32-true (images are too small)",
    ]


@pytest.mark.parametrize(
    ("units", "name", "choice"),
    [
        (["avx512_bf16"], "Intel Xeon", "32-true"),
        (["avx512_bf16", "amx_bf16"], "Intel Xeon", "bf16-mixed"),
        (["avx512_bf16"], "AMD EPYC", "bf16-mixed"),
    ],
)
def test_auto_is_float32_where_the_units_are_not_faster(machine, caplog, units, name, choice):
    caplog.set_level("INFO")
    machine({"cpu_name": name, **dict.fromkeys(units, True)})
    assert choose_precision("auto", CPU) == choice
    assert ("but is not faster with them" in caplog.text) == (choice == "32-true")
    caplog.clear()
    assert choose_precision("bf16-mixed", CPU) == "bf16-mixed" and not caplog.records


@pytest.mark.parametrize("has_units", [True, False])
def test_a_gpu_that_only_emulates_has_no_units(machine, has_units):
    machine({"avx512_bf16": True}, gpu=has_units)
    assert choose_precision("auto", GPU) == ("bf16-mixed" if has_units else "32-true")


@pytest.mark.parametrize(
    ("wanted", "device", "warns"),
    [
        ("bf16-mixed", CPU, True),
        ("16-mixed", CPU, True),
        ("32-true", CPU, False),
        ("bf16-mixed", GPU, True),
        ("16-mixed", GPU, False),
        ("32-true", GPU, False),
    ],
)
def test_what_is_wanted_is_kept_with_a_warning_where_it_is_slow(
    machine, caplog, wanted, device, warns
):
    machine(OLD_CPU)
    assert choose_precision(wanted, device) == wanted
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns
    factor = {"cpu": "takes about thirty times as long as 32-true", "cuda": "is emulated, and slow"}
    assert caplog.text.count(factor[device.type]) == warns
    machine({"bf16": True}, gpu=True)
    caplog.clear()
    assert choose_precision(wanted, device) == wanted and not caplog.records
