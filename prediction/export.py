"""Export to ONNX: one graph from waveforms to probabilities, with the preprocessing."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.event_network import EventNetwork
from utils.errors import UserError

log = logging.getLogger(__name__)
LARGEST_DIFFERENCE = 1e-4  # of a probability
N_SENSORS_CHECKED = (1, 5, 24)
AMPLITUDES_CHECKED = 10.0 ** np.arange(-9, 10, 3)  # m/s to counts


class _Graph(nn.Module):
    """Map one event (S, T) in recorder units to class probabilities (K,)."""

    def __init__(self, model: EventNetwork):
        super().__init__()
        self.model = model

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the calibrated probabilities of the ensemble of sensors that are not constant."""
        return self.model.probabilities_of_all(waveforms)


def export_onnx(model: EventNetwork, path: Path, ensemble: str) -> None:
    """Write ``waveforms`` (S, T) -> ``probabilities`` (K,) as ONNX, and compare it with PyTorch.

    S can be any number, T is the model's length in samples. Raises ``UserError`` if ``ensemble`` is
    not ``all`` (the only one in the graph), if onnx, onnxscript or onnxruntime is missing, and if
    the results differ; then nothing is written.
    """
    if ensemble != "all":
        raise UserError(
            f"--export writes the ensemble of all sensors, but ensemble is {ensemble}; "
            "set it to all"
        )
    _require_onnx()
    graph, n_samples = _Graph(model).eval(), model.n_samples
    program = _trace(graph, n_samples)
    program.model.metadata_props["class_names"] = json.dumps(model.class_names)
    program.model.metadata_props["sampling_rate_hz"] = str(model.spectrogram.sampling_rate_hz)
    difference = _save_if_equal(program, graph, path, n_samples)
    log.info(
        "%s: waveforms (sensors, %d) -> probabilities (%d); differs from PyTorch by at most %.1g",
        path,
        n_samples,
        len(model.class_names),
        difference,
    )


def _require_onnx() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--export needs {error.name}: pip install -r requirements-export.txt"
        ) from error
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _trace(graph: nn.Module, n_samples: int) -> torch.onnx.ONNXProgram:
    """Return ``graph`` as an ONNX program for any number of sensors."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (_example(3, n_samples),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("sensors", min=1)},),
            verbose=False,
            input_names=["waveforms"],
            output_names=["probabilities"],
            custom_translation_table={torch.ops.aten.log1p.default: _log1p},
        )
    assert program is not None  # with dynamo=True and without a file name it is returned
    return program


def _log1p(power: Any) -> Any:
    """Return ln(1 + power) in ONNX, which has no such operation.

    ``Log(Add(power, 1))`` would be 0 for powers below 6e-8, of waveforms in m/s. What rounding has
    taken from 1 + power is made good by the factor. [Goldberg, ACM Comput. Surv. 23, 1991,
    theorem 4]
    """
    from onnxscript import opset18 as op

    one = op.Constant(value_float=1.0)  # images are float32
    rounded = op.Add(power, one)
    taken = op.Sub(rounded, one)
    is_zero = op.Equal(rounded, one)
    safe = op.Where(is_zero, one, taken)
    return op.Where(is_zero, power, op.Mul(op.Log(rounded), op.Div(power, safe)))


def _save_if_equal(program: Any, graph: nn.Module, path: Path, n_samples: int) -> float:
    """Write the file, unless onnxruntime and PyTorch differ; return the largest difference."""
    import onnxruntime

    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        program.save(partial)
        difference = _largest_difference(graph, onnxruntime.InferenceSession(partial), n_samples)
        if not difference <= LARGEST_DIFFERENCE:  # NaN is no agreement
            raise UserError(
                f"{path}: not written; the probabilities of onnxruntime and PyTorch differ by "
                f"{difference:.2g}"
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return difference


def _example(n_sensors: int, n_samples: int, amplitude: float = 30.0) -> Tensor:
    """Return noise with a burst (S, T); of many channels one is dead, a third are weak."""
    generator = torch.Generator().manual_seed(n_sensors)
    waveforms = torch.randn(n_sensors, n_samples, generator=generator)
    waveforms[:, n_samples // 3 : n_samples // 2] *= 8
    if n_sensors > 2:
        waveforms[::3] *= 1e-7
        waveforms[1] = 7.0
    return amplitude * waveforms


def _largest_difference(graph: nn.Module, session: Any, n_samples: int) -> float:
    """Return the largest difference of a probability over all amplitudes; NaN if one is NaN."""
    differences = []
    for n_sensors in N_SENSORS_CHECKED:
        for amplitude in AMPLITUDES_CHECKED.tolist():
            waveforms = _example(n_sensors, n_samples, amplitude)
            with torch.no_grad():
                expected = graph(waveforms).numpy()
            (found,) = session.run(None, {"waveforms": waveforms.numpy()})
            differences.append(np.abs(found - expected).max())
    return float(np.max(differences))
