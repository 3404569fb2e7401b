import math

import numpy as np
import pytest
import torch

from models.calibration import (
    Calibration,
    calibrate,
    confidence_threshold,
    fit_temperature,
    reliability,
    risk_coverage,
    temper,
)
from models.evaluation import N_CALIBRATION_BINS, evaluate


def predictions(n: int, temperature: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw labels from probabilities, then distort these by a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in p])
    return torch.tensor(logits / temperature).log_softmax(1).float(), torch.tensor(labels)


@pytest.mark.parametrize("distortion", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(distortion):
    log_probs, labels = predictions(20_000, distortion)
    found = fit_temperature(log_probs, labels)
    assert found == pytest.approx(1 / distortion, rel=0.05)

    def nll(temperature: float) -> float:
        p = _softmax(log_probs.double().numpy() / temperature)
        return float(-np.log(p[np.arange(len(labels)), labels.numpy()]).mean())

    assert all(nll(found) <= nll(found * change) for change in (0.9, 0.99, 1.01, 1.1))
    assert evaluate(temper(log_probs, found), labels)["expected_calibration_error"] < 0.02


@pytest.mark.parametrize(("n", "distortion"), [(1, 1.0), (4, 0.5), (12, 3.0), (60, 1.3)])
def test_the_temperature_has_the_least_nll_with_its_prior(n, distortion):
    log_probs, labels = predictions(n, distortion, seed=n)
    log2_temperatures = np.linspace(-4.3, 4.3, 8601)
    tempered = log_probs.double().numpy() / 2 ** log2_temperatures[:, None, None]
    own = tempered[:, np.arange(n), labels.numpy()]
    nll = (np.log(np.exp(tempered).sum(2)) - own).sum(1)
    best = log2_temperatures[np.argmin(nll + 0.5 * log2_temperatures**2)]
    assert np.log2(fit_temperature(log_probs, labels)) == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("n", [1, 3, 5, 10])
@pytest.mark.parametrize("correct", [True, False])
def test_with_few_events_the_temperature_is_not_at_a_limit(n, correct):
    """All or none classified correctly with 0.9; maximum likelihood would give 0.05 or 20."""
    log_probs = torch.tensor([[0.9, 0.05, 0.05]]).log().expand(n, 3)
    found = fit_temperature(log_probs, torch.full((n,), 0 if correct else 1))
    assert 0.3 < found < 1 if correct else 1 < found < 10


def test_with_many_events_the_prior_has_no_effect():
    log_probs, labels = predictions(2000, 0.5)
    logs = np.linspace(np.log(1.5), np.log(2.5), 501)
    nll = [torch.nn.functional.nll_loss(temper(log_probs, float(np.exp(t))), labels) for t in logs]
    most_likely = float(np.exp(logs[int(np.argmin(nll))]))
    assert fit_temperature(log_probs, labels) == pytest.approx(most_likely, rel=0.01)


def test_events_of_a_class_that_was_not_learned_are_errors_but_do_not_move_the_temperature():
    log_probs, labels = predictions(200, 2.0)
    impossible = torch.cat([log_probs, torch.full((200, 1), -45.0)], 1)  # class 5: never learned
    learned = torch.arange(6) < 5
    plain = calibrate(impossible, labels, learned)
    with_two = torch.where(torch.arange(200) < 2, 5, labels)
    again = calibrate(impossible, with_two, learned)
    assert again.temperature == pytest.approx(fit_temperature(impossible[2:], labels[2:]), abs=1e-6)
    assert len(again.correct) == 200 and not again.correct[:2].any()
    assert torch.equal(again.correct[2:], plain.correct[2:])
    nothing = calibrate(impossible, torch.full((200,), 5), learned)
    assert nothing.temperature == pytest.approx(1, abs=1e-3) and not nothing.correct.any()


def _softmax(x):
    p = np.exp(x - x.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_tempering_keeps_the_order_and_the_sum():
    log_probs, _ = predictions(50, 1.0)
    for temperature in (0.3, 4.0):
        softened = temper(log_probs, temperature)
        np.testing.assert_allclose(
            softened.exp().numpy(), _softmax(log_probs.numpy() / temperature), rtol=1e-5
        )
        assert torch.equal(softened.argmax(1), log_probs.argmax(1))


def test_the_threshold_is_the_least_that_keeps_errors_within_the_rate():
    rng = np.random.default_rng(1)
    for trial in range(50):
        n = int(rng.integers(1, 60))
        confidence = torch.tensor(rng.choice(np.linspace(0.2, 1, 9), n)).float()
        correct = torch.tensor(rng.random(n) < confidence.numpy())
        rate = float(rng.choice([0.05, 0.1, 0.3]))
        allowed = [
            c
            for c in confidence.unique().tolist()
            if ((~correct[confidence >= c]).sum() + 1) / ((confidence >= c).sum() + 1) <= rate
        ]
        assert confidence_threshold(confidence, correct, rate) == (
            min(allowed) if allowed else math.inf
        ), trial


def test_risk_and_coverage_of_a_few_events():
    confidence, correct = (
        torch.tensor([0.5, 0.9, 0.7, 0.6]),
        torch.tensor([True, True, False, True]),
    )
    coverage, risk = risk_coverage(confidence, correct)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1] and risk.tolist() == pytest.approx(
        [0, 1 / 2, 1 / 3, 1 / 4]
    )


def test_reliability_agrees_with_the_calibration_error():
    log_probs, labels = predictions(3000, 2.0)
    confidence, predicted = log_probs.exp().max(1)
    mean, accuracy, count = reliability(confidence, predicted == labels, N_CALIBRATION_BINS)
    error = float((count * (mean - accuracy).abs()).sum() / count.sum())
    assert count.sum() == 3000 and error == pytest.approx(
        evaluate(log_probs, labels)["expected_calibration_error"], abs=1e-5
    )


def test_a_calibration_goes_through_a_checkpoint(tmp_path):
    calibration = calibrate(*predictions(200, 2.0), torch.ones(5).bool())
    torch.save(calibration.state(), tmp_path / "c.pt")
    again = Calibration(**torch.load(tmp_path / "c.pt", weights_only=True))
    assert again.temperature == calibration.temperature and again.threshold(
        0.3
    ) == calibration.threshold(0.3)
    assert 0.2 < calibration.threshold(0.3) < 1 and calibration.threshold(1e-6) == math.inf
