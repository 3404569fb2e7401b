import pytest
import torch
from torch.nn import functional as F

from models import event_network
from models.ensemble import ensemble_log_probs
from models.event_classifier import EventClassifier
from preprocessing.dataset import N_DRAWS, N_SENSOR_DRAWS, EventBatch
from tests.modules import CLASSIFIER
from tests.modules import small_classifier as classifier


def batch_of(waveforms: torch.Tensor, labels: list[int]) -> EventBatch:
    n, s, _ = waveforms.shape
    mask = torch.ones(n, s, dtype=torch.bool)
    return EventBatch(
        waveforms,
        mask,
        torch.arange(s).repeat(n, 1),
        torch.tensor(labels),
        torch.arange(n),
        torch.rand(n, N_DRAWS - N_SENSOR_DRAWS),
    )


@pytest.mark.parametrize("missing", CLASSIFIER)
def test_what_the_configuration_decides_must_be_given(missing):
    given = {name: value for name, value in CLASSIFIER.items() if name != missing}
    with pytest.raises(TypeError, match=f"'{missing}'"):
        EventClassifier(["a", "b", "c"], "ResNet18Encoder", **given)


def test_the_first_checkpoints_load_without_the_arguments_that_came_later(tmp_path):
    model = classifier()
    parameters = dict(model.hparams)
    later = {name: parameters.pop(name) for name in ("stem_stride", "n_samples", "pre_trigger_s")}
    assert later == {"stem_stride": 2, "n_samples": None, "pre_trigger_s": 3.0}
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": parameters,
        "pytorch-lightning_version": "2.5.0",
    }
    torch.save(content, tmp_path / "old.ckpt")
    loaded = EventClassifier.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)
    waveforms = torch.randn(1, 2, 1200)
    expected = model.eval().predict_waveforms(waveforms)
    torch.testing.assert_close(loaded.predict_waveforms(waveforms), expected)


def test_folding_sensors_into_the_batch_equals_a_loop_over_them(monkeypatch):
    model = classifier().eval()
    waveforms, mask = torch.randn(3, 5, 1200) * 30, torch.rand(3, 5) > 0.3
    mask[:, 0] = True
    monkeypatch.setattr(event_network, "IMAGES_PER_CHUNK_CPU", 4)
    with torch.no_grad():
        folded = model.sensor_logits(waveforms, mask)
        for b in range(3):
            for s in range(5):
                image = model.spectrogram(waveforms[b, s])[None, None]
                expected = (
                    model.classifier(model.encoder(image))[0] if mask[b, s] else torch.zeros(3)
                )
                torch.testing.assert_close(folded[b, s], expected, rtol=1e-4, atol=1e-5)


def test_predict_waveforms_is_the_ensemble_of_live_sensors():
    model = classifier()
    waveforms = torch.randn(2, 4, 1200) * 30
    waveforms[0, 2] = 1000.3
    probabilities = model.predict_waveforms(waveforms)
    assert model.training and not probabilities.requires_grad
    model.eval()
    live = model.predict_waveforms(waveforms[:1, [0, 1, 3]])
    torch.testing.assert_close(probabilities[:1], live)
    with torch.no_grad():
        logits = model.sensor_logits(waveforms[1:], torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(probabilities[1:], ensemble_log_probs(logits).exp())
    assert model.predict_waveforms(waveforms[:, :1]).shape == (2, 3)
    waveforms[1, 3, 7] = float("nan")
    with pytest.raises(ValueError, match="event 1, channel 3"):
        model.predict_waveforms(waveforms)


def test_frozen_encoder_stays_and_the_head_learns(monkeypatch):
    model = classifier(freeze_encoder=True)
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    assert not model.encoder.training and model.classifier.training
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    model.training_step(batch_of(torch.randn(4, 1, 1200) * 30, [0, 1, 2, 0]), 0).backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_freeze_bn_stat_train_keeps_statistics_but_trains_weights(monkeypatch):
    model = classifier(freeze_bn_stat_train=True)
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    model.train()
    before = {k: v.clone() for k, v in model.encoder.named_buffers()}
    model.training_step(batch_of(torch.randn(4, 1, 1200) * 30, [0, 1, 2, 0]), 0).backward()
    assert all(torch.equal(v, before[k]) for k, v in model.encoder.named_buffers())
    assert model.encoder.model.bn1.weight.grad is not None


def test_every_live_sensor_is_a_training_sample(monkeypatch):
    model = classifier(class_weights=[1.0, 2.0, 0.5]).eval()
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    batch = batch_of(torch.randn(2, 3, 1200) * 30, [1, 2])
    batch.mask[1, 2] = False
    loss = model.training_step(batch, 0)
    logits = torch.cat(
        [model.sensor_logits(batch.waveforms, batch.mask)[b, batch.mask[b]] for b in range(2)]
    )
    torch.testing.assert_close(
        loss, F.cross_entropy(logits, torch.tensor([1, 1, 1, 2, 2]), torch.tensor([1.0, 2.0, 0.5]))
    )


def test_learning_rates_of_encoder_and_head(monkeypatch):
    model = classifier(learning_rate={"encoder": 5e-4, "clf": 1e-3})
    monkeypatch.setattr(
        EventClassifier, "trainer", type("T", (), {"estimated_stepping_batches": 10})
    )
    built = model.configure_optimizers()
    assert [group["lr"] for group in built["optimizer"].param_groups] == [5e-4, 1e-3]
    assert (
        built["lr_scheduler"]["interval"] == "step"
        and built["lr_scheduler"]["scheduler"].T_max == 10
    )


def test_each_channel_of_an_event_is_changed_by_its_own_numbers(monkeypatch):
    model = classifier(augmentations=["RandomAmplitudeJitter"])
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    batch, seen = batch_of(torch.randn(3, 2, 1200) * 30, [0, 1, 2]), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda images: seen.append(images) or forward(images))
    model.training_step(batch, 0)
    first = batch.draws[:, 3]  # the first channel has the number of its event
    uniforms = torch.stack([first, (first + 0.6180339887) % 1], dim=1).flatten()
    factor = (0.7 + 0.6 * uniforms)[:, None, None, None]
    torch.testing.assert_close(seen[0], factor * model.to_images(batch.waveforms.flatten(0, 1)))


def test_all_augmentations_change_the_training_images_only(monkeypatch):
    names = ["RandomTimeShift", "RandomMask", "RandomNoise", "RandomAmplitudeJitter", "ToTensor"]
    model, batch = (
        classifier(augmentations=names),
        batch_of(torch.randn(3, 1, 1200) * 30, [0, 1, 2]),
    )
    monkeypatch.setattr(model, "log_dict", lambda *args, **kwargs: None)
    seen, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda images: seen.append(images) or forward(images))
    model.training_step(batch, 0)
    model.eval()
    model.sensor_logits(batch.waveforms, batch.mask)
    images = model.to_images(batch.waveforms[:, 0])
    assert not torch.equal(seen[0], images) and torch.equal(seen[1], images)
