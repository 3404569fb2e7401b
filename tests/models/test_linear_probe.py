import torch

from models.linear_probe import N_CHANGED, LinearProbe
from preprocessing.dataset import EventBatch
from preprocessing.views import RandomTimeShift

N_SENSORS = 3


def probe(augmentations):
    torch.manual_seed(0)
    return LinearProbe(
        class_names=("a", "b"),
        backbone_type="CompactEncoder",
        class_weights=None,
        learning_rate=1e-3,
        augmentations=augmentations,
        weight_decay=0.0,
        label_smoothing=0.0,
        freeze_encoder=True,
        freeze_bn_stat_train=False,
        spectrogram={"resize_size": None},
        n_samples=16000,
    ).eval()


def batch_of(n_events=2):
    mask = torch.ones(n_events, N_SENSORS, dtype=torch.bool)
    mask[0, 1] = False
    return EventBatch(
        waveforms=100 * torch.randn(n_events, N_SENSORS, 16000),
        mask=mask,
        sensors=torch.arange(N_SENSORS).repeat(n_events, 1),
        labels=torch.arange(n_events),
        events=torch.arange(n_events),
        draws=torch.rand(n_events, 27),
    )


def test_the_head_sees_each_channel_as_recorded_and_moved():
    model, batch = probe(["RandomTimeShift"]), batch_of()
    with torch.no_grad():
        features, mask = model._representations(batch)
        images = model.to_images(batch.waveforms[1])
        as_recorded = model.encoder(images)
    assert features.shape == (2, N_SENSORS, 1 + N_CHANGED, 128) and torch.equal(mask, batch.mask)
    assert not features[0, 1].any()
    torch.testing.assert_close(features[1, :, 0], as_recorded)
    for sensor in range(N_SENSORS):
        for copy in range(N_CHANGED):  # every copy has its own random numbers
            steps = sensor + copy * N_SENSORS
            uniform = (batch.draws[1, RandomTimeShift.draws][0] + 0.6180339887 * steps) % 1
            columns = int(uniform * (2 * 28 + 1)) - 28  # an eighth of 228 columns
            moved = torch.roll(images[sensor : sensor + 1], columns, -1)
            with torch.no_grad():
                expected = model.encoder(moved)[0]
            torch.testing.assert_close(features[1, sensor, 1 + copy], expected)


def test_without_augmentations_there_are_no_copies():
    with torch.no_grad():
        features, _ = probe(["ToTensor"])._representations(batch_of())
    assert features.shape[2] == 1
