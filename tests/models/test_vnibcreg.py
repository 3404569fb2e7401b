import numpy as np
import pytest
import torch

from models.evaluation import effective_rank
from models.losses import covariance_loss, invariance_loss, tnc_loss, variance_loss
from models.vnibcreg import VNIbCReg
from preprocessing.dataset import EventBatch
from preprocessing.views import crop_columns
from tests.modules import PRETRAINING
from tests.modules import small_pretraining as model


def test_views_are_cut_from_the_right_channels_at_the_drawn_places():
    module = model(augmentations=["NeighboringCrop", "RandomAmplitudeJitter"])
    waveforms, draws = torch.randn(3, 2, 4000) * 20, torch.rand(3, 6)
    views = module.cut_views(waveforms, draws)
    images = module.spectrogram(waveforms)
    columns = crop_columns(module.view.centres(draws[:, :3]), images.shape[-1])
    for b in range(3):
        # neighbour and distant crop come from the second channel
        for view, channel in enumerate((0, 1, 1)):
            factor = 0.7 + 0.6 * draws[b, 3 + view]
            torch.testing.assert_close(
                views[b, view], factor * images[b, channel][:, columns[b, view]]
            )


@pytest.mark.parametrize("use_diag_loss", [True, False])
def test_loss_is_the_weighted_sum_of_its_terms(use_diag_loss):
    module = model(lambda_=2.0, mu=3.0, nu=5.0, rho=7.0, use_diag_loss=use_diag_loss).eval()
    crops = torch.rand(6, 3, 64, 40)
    terms = module.losses(crops)
    y, y_l, y_k = (module.encoder(crops[:, i : i + 1]) for i in range(3))
    z, z_l = module.projector(y), module.projector(y_l)
    tnc, _ = tnc_loss(module.discriminator, y, y_l, y_k, use_diag_loss)
    expected = (
        2 * invariance_loss(z, z_l)
        + 3 * variance_loss(z, z_l)
        + 5 * covariance_loss(z, z_l)
        + 7 * tnc
    )
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["z_std"], z.std(0).mean().detach())


def test_vibcreg_has_no_temporal_term():
    module = model(use_tnc=False, augmentations=["RandomCrop"])
    assert module.discriminator is None
    views = module.cut_views(torch.randn(4, 2, 4000), torch.rand(4, 6))
    assert views.shape[1] == 2
    assert "tnc" not in module.losses(views)


@pytest.mark.parametrize("missing", PRETRAINING)
def test_what_the_configuration_decides_must_be_given(missing):
    given = {name: value for name, value in PRETRAINING.items() if name != missing}
    with pytest.raises(TypeError, match=f"'{missing}'"):
        VNIbCReg("ResNet18Encoder", **given)


def test_a_checkpoint_of_before_stem_stride_loads(tmp_path):
    module = model()
    assert module.hparams.pop("stem_stride") == 2
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.5.0",
    }
    torch.save(content, tmp_path / "old.ckpt")
    loaded = VNIbCReg.load_from_checkpoint(tmp_path / "old.ckpt", weights_only=True)
    assert loaded.encoder.stem_stride == 2


def test_dead_channels_make_no_nan():
    module = model()
    loss = module.losses(module.cut_views(torch.zeros(4, 2, 4000), torch.rand(4, 6)))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_whole_events_are_the_images_of_both_channels_changed_by_the_draws():
    names = ["WholeEvent", "RandomTimeShift", "RandomAmplitudeJitter"]
    module = model(use_tnc=False, augmentations=names)
    waveforms, draws = torch.randn(3, 2, 4000) * 20, torch.rand(3, 27)
    views = module.cut_views(waveforms, draws)
    images = module.spectrogram(waveforms)
    eighth = images.shape[-1] // 8
    for event in range(3):
        for view in range(2):
            shift = int(np.floor(draws[event, 6 + view].item() * (2 * eighth + 1))) - eighth
            expected = images[event, view].roll(shift, dims=-1)
            factor = 0.7 + 0.6 * draws[event, 3 + view]
            torch.testing.assert_close(views[event, view], factor * expected)
    assert "tnc" not in module.losses(views)


def test_the_effective_rank_of_held_out_events_is_logged(monkeypatch):
    module, logged = model(), {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    batches = [torch.randn(6, 2, 4000) * 20 for _ in range(2)]
    draws, nobody = torch.rand(6, 27), torch.zeros(6, dtype=torch.long)
    module.eval()
    for waveforms in batches:
        module.validation_step(EventBatch(waveforms, None, None, nobody, nobody, draws), 0)
    module.on_validation_epoch_end()
    y = [module.encoder(module.cut_views(w, draws)[:, :1]).detach() for w in batches]
    assert logged["val/effective_rank"] == pytest.approx(effective_rank(torch.cat(y)), rel=1e-3)
    assert not module._held_out
