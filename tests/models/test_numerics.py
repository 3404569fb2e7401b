"""Low precision stays out of normalisation, correlations and losses; odd batches make no NaN."""

import pytest
import torch

from models.class_weights import weighted_cross_entropy
from models.heads import Discriminator
from models.iternorm import IterNorm
from models.losses import covariance_loss, invariance_loss, pearson, tnc_loss, variance_loss
from preprocessing.dataset import EventBatch
from tests.modules import small_classifier, small_pretraining

# 21 x 228 pixels, crops of 22
SMALL = {"sampling_rate_hz": 100, "nperseg": 40, "resize_size": None}
LOW = [torch.bfloat16, torch.float16]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return [3 + torch.randn(32, 128, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("function", [invariance_loss, variance_loss, covariance_loss, pearson])
def test_losses_are_float32_under_autocast(pair, dtype, function):
    rounded = [x.to(dtype) for x in pair[:2]]
    with torch.autocast("cpu", dtype):
        found = function(*rounded)
    exact = function(*(x.double().float() for x in rounded))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", LOW)
def test_iternorm_and_classification_are_float32_under_autocast(pair, dtype):
    rounded = pair[0].to(dtype)
    with torch.autocast("cpu", dtype):
        white = IterNorm(128, num_groups=2)(rounded)
        loss = weighted_cross_entropy(rounded[:, :4], torch.arange(32) % 4, torch.ones(4))
    assert white.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(
        white, IterNorm(128, num_groups=2)(rounded.float()), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(rounded[:, :4].float(), torch.arange(32) % 4)
    )


@pytest.mark.parametrize("dtype", LOW)
def test_the_temporal_terms_are_float32_under_autocast(pair, dtype):
    discriminator = Discriminator(128).eval()
    with torch.autocast("cpu", dtype):
        loss, parts = tnc_loss(discriminator, *(x.to(dtype) for x in pair), use_diag_loss=True)
    assert {value.dtype for value in (loss, *parts.values())} == {torch.float32}
    rounded = [x.to(dtype).float() for x in pair]
    expected = (1 - pearson(rounded[0], rounded[1])).square().mean() + pearson(
        rounded[0], rounded[2]
    ).square().mean()
    torch.testing.assert_close(parts["tnc_diag"], expected, rtol=1e-6, atol=1e-7)


def batches():
    """Unusual batches (8, 2, 8000), as real recorders produce them."""
    generator = torch.Generator().manual_seed(1)
    noise = 30 * torch.randn(8, 2, 8000, generator=generator)
    dead, offset, giant = noise.clone(), noise + 1e9, noise.clone()
    dead[:, 1] = 5.0
    giant[3] *= 1e10
    return {
        "identical": noise[:1].expand(8, 2, 8000).clone(),
        "dead": dead,
        "constant": torch.full_like(noise, 7.0),
        "zero": torch.zeros_like(noise),
        "offset": offset,
        "giant": giant,
    }


def served(waveforms):
    n = len(waveforms)
    return EventBatch(
        waveforms,
        torch.ones(n, 2, dtype=torch.bool),
        torch.zeros(n, 2, dtype=torch.long),
        torch.arange(n) % 3,
        torch.arange(n),
        torch.rand(n, 6),
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", batches())
def test_odd_batches_give_finite_losses_and_gradients(name, precision):
    batch = served(batches()[name])
    ssl, supervised = small_pretraining(spectrogram=SMALL), small_classifier(spectrogram=SMALL)
    supervised.log_dict = ssl.log = lambda *arguments, **options: None
    for model in (ssl, supervised):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = model.training_step(batch, 0)
        loss.backward()
        assert torch.isfinite(loss), type(model).__name__
        for parameter, p in model.named_parameters():
            assert p.grad is None or torch.isfinite(p.grad).all(), (type(model).__name__, parameter)
    probabilities = supervised.predict_waveforms(batch.waveforms)
    assert torch.isfinite(probabilities).all() and torch.allclose(
        probabilities.sum(1), torch.ones(8)
    )
