import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from models.ensemble import ensemble_log_probs
from models.linear_head import N_CHANGED, STRENGTHS, USUAL_STRENGTH, LinearProbe, fit_linear_head
from preprocessing.dataset import EventBatch
from preprocessing.views import RandomTimeShift

N_CLASSES, N_FEATURES = 4, 6
N_SENSORS = 3


def channels(n_events=60, n_channels=5, seed=0, spread=2.0):
    """Return features, labels and events of channels whose classes overlap; class 3 is rare."""
    rng = np.random.default_rng(seed)
    centres = 1.5 * rng.normal(size=(N_CLASSES, N_FEATURES))
    labels = np.where(np.arange(n_events) < 2, 3, np.arange(n_events) % 3)
    events = np.repeat(np.arange(n_events), n_channels)
    labels = labels[events]
    features = centres[labels] + spread * rng.normal(size=(len(events), N_FEATURES))
    return features * [1, 10, 100, 1, 1, 1] + [0, 0, 1000, 5, 0, 0], labels, events


@pytest.mark.parametrize("n_changed", [0, 3])
def test_the_head_minimises_the_weighted_penalised_loss(n_changed):
    features, labels, events = channels(20)
    class_weights = np.array([1.0, 2.0, 0.5, 1.5])
    noise = np.random.default_rng(1).normal(size=(len(features), n_changed, N_FEATURES))
    changed = features[:, None] + noise * features.std(0)
    head = fit_linear_head(features, labels, events, class_weights, changed)
    rows = np.concatenate([features, *changed.swapaxes(0, 1)])
    known = np.tile(labels, 1 + n_changed)
    mean, scale = rows.mean(0), rows.std(0)
    weights = class_weights[known] / class_weights[known].mean() / (1 + n_changed)
    x, one_hot = (rows - mean) / scale, np.eye(N_CLASSES)[known]

    def loss(parameters):  # C * sum of losses + |weights|^2 / 2, retyped
        matrix = parameters.reshape(N_CLASSES, N_FEATURES + 1)
        logits = x @ matrix[:, :-1].T + matrix[:, -1]
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        losses = -(log_probs * one_hot).sum(1)
        return head.strength * (weights * losses).sum() + (matrix[:, :-1] ** 2).sum() / 2

    best = minimize(loss, np.zeros(N_CLASSES * (N_FEATURES + 1)), method="L-BFGS-B")
    matrix = best.x.reshape(N_CLASSES, N_FEATURES + 1)
    expected = torch.from_numpy(x @ matrix[:, :-1].T + matrix[:, -1]).log_softmax(1)
    logits = torch.from_numpy(rows @ head.weight.T + head.bias)
    torch.testing.assert_close(logits.log_softmax(1), expected, atol=0.02, rtol=0.02)
    plain = fit_linear_head(features, labels, events, class_weights)
    assert n_changed or np.array_equal(head.weight, plain.weight)


def test_the_strength_has_the_least_loss_of_the_ensemble_on_left_out_events():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    chosen = set()
    for spread in (0.3, 3.0, 30.0):
        features, labels, events = channels(40, 3, spread=spread)
        keep = labels != 3
        features, labels, events = features[keep], labels[keep], events[keep]
        x = (features - features.mean(0)) / features.std(0)
        losses = []
        for strength in STRENGTHS:
            total = 0.0
            for train, test in StratifiedGroupKFold(4, shuffle=True, random_state=0).split(
                x, labels, events
            ):
                model = LogisticRegression(C=strength, max_iter=1000).fit(x[train], labels[train])
                logits = torch.from_numpy(model.predict_log_proba(x[test])).view(-1, 3, 3)
                of_events = torch.from_numpy(labels[test]).view(-1, 3)[:, 0]
                total += F.nll_loss(ensemble_log_probs(logits), of_events, reduction="sum").item()
            losses.append(total)
        head = fit_linear_head(features, labels, events, np.ones(N_CLASSES))
        assert head.strength == STRENGTHS[int(np.argmin(losses))]
        chosen.add(head.strength)
    assert len(chosen) > 1


def test_classes_without_weight_or_events_are_never_predicted():
    features, labels, events = channels()
    head = fit_linear_head(features, labels, events, np.array([1.0, 1.0, 0.0, 0.0]))
    predicted = (features @ head.weight.T + head.bias).argmax(1)
    assert set(predicted) == {0, 1}
    assert head.bias[2] == head.bias[3] == -30 and not head.weight[2:].any()


def test_two_classes_give_two_logits():
    features, labels, events = channels(spread=0.5)
    two = labels < 2
    head = fit_linear_head(features[two], labels[two], events[two], np.ones(2))
    assert head.weight.shape == (2, N_FEATURES)
    assert ((features[two] @ head.weight.T + head.bias).argmax(1) == labels[two]).mean() > 0.95


def test_events_count_the_same_whatever_their_number_of_channels():
    features, labels, events = channels(12, 2)
    often = np.r_[0, 1, 0, 1, np.arange(2, len(events))]  # the channels of the first event twice
    plain, repeated = (
        fit_linear_head(features[rows], labels[rows], events[rows], np.ones(N_CLASSES))
        for rows in (np.arange(len(events)), often)
    )
    if plain.strength == repeated.strength:  # only the standardisation differs a little
        np.testing.assert_allclose(
            plain.weight, repeated.weight, atol=0.1 * abs(plain.weight).max()
        )
    assert plain.weight.shape == repeated.weight.shape


def test_a_class_with_one_event_has_no_part_in_the_comparison():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    chosen = set()
    for spread in (0.3, 30.0, 100.0):
        features, labels, events = channels(41, 3, seed=3, spread=spread)
        labels = np.where(events == 0, 3, events % 3)
        x, others = (features - features.mean(0)) / features.std(0), np.flatnonzero(events > 0)
        losses = dict.fromkeys(STRENGTHS, 0.0)
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
        for kept, left_out in folds.split(others, labels[others], events[others]):
            train, test = others[kept], others[left_out]
            for strength in STRENGTHS:
                model = LogisticRegression(C=strength, max_iter=1000).fit(x[train], labels[train])
                logits = torch.from_numpy(model.decision_function(x[test])).view(-1, 3, 3)
                known = torch.from_numpy(labels[test][::3])
                loss = F.nll_loss(ensemble_log_probs(logits), known, reduction="sum")
                losses[strength] += loss.item()
        head = fit_linear_head(features, labels, events, np.ones(N_CLASSES))
        assert head.strength == min(losses, key=losses.__getitem__)
        chosen.add(head.strength)
    assert len(chosen) > 1


@pytest.mark.parametrize("n_events", [4, 5])
def test_classes_with_one_event_and_constant_features_are_no_obstacle(n_events):
    """With five events one class has two, which is one class too few to compare."""
    features, labels, events = channels(n_events, 3)
    labels = events % 4
    features[:, 1] = 7.0
    head = fit_linear_head(features, labels, events, np.ones(N_CLASSES))
    assert head.strength == USUAL_STRENGTH
    assert np.isfinite(head.weight).all() and np.isfinite(head.bias).all()


@pytest.mark.filterwarnings("error")  # of the logarithm of a probability that is zero
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_channel_far_from_all_others_is_no_obstacle(n_classes):
    features, labels, events = channels(1000, 5, spread=0.3)
    labels = labels % n_classes
    means = [features[labels == number].mean(0) for number in (0, 1)]
    features[7] += 200 * (means[1] - means[0])
    head = fit_linear_head(features, labels, events, np.ones(n_classes))
    assert np.isfinite(head.weight).all() and np.isfinite(head.bias).all()


@pytest.mark.parametrize("n_channels", [1, 24])
def test_many_channels_are_compared_on_a_part(n_channels):
    features, labels, events = channels(11_000 // n_channels, n_channels)
    assert fit_linear_head(features, labels, events, np.ones(N_CLASSES)).strength in STRENGTHS


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
