"""predict.py --export, and what users get wrong on its command line."""

import json

import numpy as np
import pytest
import torch

from prediction.classifier import load_classifier
from prediction.export import export_onnx
from preprocessing.recordings import read_recording
from tests.prediction.conftest import predict
from utils.errors import UserError


def test_export_gives_one_graph_from_waveforms_to_probabilities(place, ckpt, events):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    output = predict(ckpt, "--export", "model.onnx", cwd=place)
    assert "differs from PyTorch by at most" in output
    session, (model, _) = onnxruntime.InferenceSession(place / "model.onnx"), load_classifier(ckpt)
    for path in sorted((events / "low").iterdir())[:3]:
        waveforms = read_recording(path).waveforms
        for n in (1, 3):
            (found,) = session.run(None, {"waveforms": waveforms[:n]})
            np.testing.assert_allclose(
                found,
                model.predict_waveforms(torch.from_numpy(waveforms[:n])[None])[0].numpy(),
                atol=1e-4,
            )
    names = session.get_modelmeta().custom_metadata_map["class_names"]
    assert json.loads(names) == ["high", "low", "twice"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo model and its graph."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, _ = load_classifier("demo")
    path = tmp_path_factory.mktemp("export") / "demo.onnx"
    export_onnx(model, path, "all")
    return model, onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
def test_a_graph_computes_the_same_at_every_amplitude(demo, aknes_event, factor):
    """Volts, m/s or counts; with channels that are weak or dead."""
    model, session = demo
    recorded = read_recording(aknes_event).waveforms
    weak = recorded.copy()
    weak[8:16] *= 1e-7
    weak[3] = 5.0
    for waveforms in (recorded, weak):
        scaled = (waveforms * np.float32(factor)).astype(np.float32)
        (found,) = session.run(None, {"waveforms": scaled})
        expected = model.predict_waveforms(torch.from_numpy(scaled)[None])[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
    if factor == 1e-6:
        (found,) = session.run(None, {"waveforms": (recorded * np.float32(1e-6))})
        assert model.class_names[found.argmax()] == "Regional" and found.max() > 0.97


@pytest.mark.parametrize("wrong", [np.nan, 0.5])
def test_a_graph_that_differs_or_gives_nan_is_not_written(demo, tmp_path, monkeypatch, wrong):
    model, session = demo

    class Wrong:
        def __init__(self, _):
            pass

        def run(self, names, inputs):
            (found,) = session.run(names, inputs)
            return [found * np.float32(wrong if inputs["waveforms"].max() < 1e-6 else 1)]

    monkeypatch.setattr("onnxruntime.InferenceSession", Wrong)
    with pytest.raises(UserError, match="not written; the probabilities of onnxruntime and"):
        export_onnx(model, tmp_path / "wrong.onnx", "all")
    assert not list(tmp_path.iterdir())


def test_export_without_its_packages_is_refused(place, ckpt):
    shim = place / "no_onnx"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        output = predict(ckpt, "--export", "none.onnx", cwd=place, status=2)
    assert (
        "--export needs onnxruntime: pip install -r requirements-export.txt" in output
        and not (place / "none.onnx").exists()
    )


def test_mistakes_get_one_message_and_status_2(place, ckpt, events):
    (place / "garbage.ckpt").write_bytes(b"garbage")
    encoder = next(ckpt.parent.glob("encoder-ep_*.ckpt"))
    out = ["--out", "wrong.csv"]
    for wrong, arguments, message in (
        ("none.ckpt", [events, *out], "--ckpt: no such file: none.ckpt"),
        (
            "garbage.ckpt",
            [events, *out],
            "garbage.ckpt: not a checkpoint that can be loaded safely",
        ),
        (encoder, [events, *out], "an encoder file; give the checkpoints/last.ckpt of a run"),
        (ckpt, ["nowhere", *out], "nowhere: no such file or folder"),
        (
            ckpt,
            [events, *out, "ensemble=best"],
            "ensemble: found 'best'; should be 'all' or 'usable'",
        ),
        (
            ckpt,
            [events, *out, "ensemble=weighted"],
            "ensemble: found 'weighted'; weighted was removed",
        ),
        (
            ckpt,
            [events, *out, "trigger.sta=1"],
            "trigger.sta: unknown key; did you mean trigger.sta_s?",
        ),
        (ckpt, [events, *out, "trigger.lta_s=2"], "STA/LTA stays below lta_s / sta_s = 4"),
        (ckpt, [events], "recordings and --out FILE are needed"),
        (ckpt, ["--continuous", ckpt, *out], "cannot be read"),
    ):
        output = predict(wrong, *arguments, cwd=place, status=2)
        assert message in output and "Traceback" not in output, output
        assert not (place / "wrong.csv").exists()
