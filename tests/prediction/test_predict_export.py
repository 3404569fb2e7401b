"""predict.py --export, and what users get wrong on its command line."""

import numpy as np
import pytest
import torch

from prediction.classifier import load_classifier
from preprocessing.recordings import read_recording
from tests.prediction.conftest import predict


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
    assert session.get_modelmeta().custom_metadata_map["class_names"] == "high,low,twice"


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
