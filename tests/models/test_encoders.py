import pytest
import torch
import torchvision

from models.encoders import DEPTHS, EncoderFileError, ResNet, build_encoder, load_encoder_weights
from original_implementation.networks import build_backbone_with_clf
from preprocessing.spectrogram import LogSpectrogram
from utils.names import BACKBONES_WITH_CLF, ENCODER_SIZES


@pytest.mark.parametrize(
    "name", ["ResNet18Encoder", "ResNet34Encoder", "ResNet50Encoder", "ResNet152Encoder"]
)
def test_encoder_has_torchvisions_body_and_a_one_channel_stem(name):
    encoder = build_encoder(name).eval()
    reference = getattr(torchvision.models, name.removesuffix("Encoder").lower())()
    expected = {
        f"model.{k}": v.shape for k, v in reference.state_dict().items() if not k.startswith("fc.")
    }
    expected["model.conv1.weight"] = torch.Size([64, 1, 7, 7])
    assert {k: v.shape for k, v in encoder.state_dict().items()} == expected
    assert (
        encoder.model.conv1.bias is None
        and encoder.model.conv1.stride == (2, 2)
        and encoder.model.conv1.padding == (3, 3)
    )
    with torch.no_grad():
        y = encoder(torch.rand(1, 1, 64, 70))
    assert y.shape == (1, ENCODER_SIZES[name]) == (1, encoder.out_size)


def test_compact_encoder_has_one_block_per_stage_and_few_parameters():
    encoder = build_encoder("CompactEncoder").eval()
    shapes = {k: tuple(v.shape) for k, v in encoder.named_parameters()}
    assert shapes["model.conv1.weight"] == (16, 1, 7, 7)
    # 16, 32, 64, 128 channels; all stages but the first halve the image
    assert shapes["model.layer4.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["model.layer2.0.downsample.0.weight"] == (32, 16, 1, 1)
    assert (
        "model.layer1.0.downsample.0.weight" not in shapes
        and "model.layer1.1.conv1.weight" not in shapes
    )
    assert 300_000 < sum(p.numel() for p in encoder.parameters()) < 320_000
    with torch.no_grad():
        maps = encoder.model[:-2](torch.rand(3, 1, 41, 228))
        assert maps.shape == (3, 128, 2, 8)
        assert encoder(torch.rand(1, 1, 41, 228)).shape == (1, ENCODER_SIZES["CompactEncoder"])


@pytest.mark.parametrize("name", ["ResNet18Encoder", "CompactEncoder"])
def test_encoder_averages_over_the_image(name):
    encoder = build_encoder(name).eval()
    image = torch.rand(2, 1, 96, 160)
    body = torch.nn.Sequential(*list(encoder.model.children())[:-2])
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), body(image).mean((2, 3)))


@pytest.mark.parametrize("name", BACKBONES_WITH_CLF)
def test_backbone_with_classifier(name):
    model = build_backbone_with_clf(name, 8).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 128, 200)).shape == (1, 8)
    if name == "AlexNet":
        stem = model.features[0]
        assert (
            stem.in_channels,
            stem.out_channels,
            stem.kernel_size,
            stem.stride,
            stem.padding,
        ) == (
            1,
            64,
            (11, 11),
            (4, 4),
            (2, 2),
        )
    else:
        body = torch.nn.Sequential(*list(model.children())[:-2])
        image = torch.rand(2, 1, 96, 160)
        with torch.no_grad():
            torch.testing.assert_close(model(image), model.fc(body(image).amax((2, 3))))


def test_alexnet_has_torchvisions_weights_and_outputs():
    torch.manual_seed(0)
    ours = build_backbone_with_clf("AlexNet", 5).eval()
    torch.manual_seed(0)
    reference = torchvision.models.alexnet(weights=None, num_classes=5).eval()
    reference.features[0] = torch.nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2)
    expected = reference.state_dict()
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(found, expected[name]) for name, found in ours.state_dict().items())
    with torch.no_grad():
        images = torch.rand(2, 1, 96, 160)
        assert torch.equal(ours(images), reference(images))


@pytest.mark.parametrize("build", [build_encoder, build_backbone_with_clf])
def test_unknown_name_lists_the_known_ones(build):
    with pytest.raises(ValueError, match=r"ResNet99.*ResNet18"):
        build("ResNet99")


def test_weights_load_from_encoder_file_and_from_lightning_checkpoint(tmp_path):
    source = build_encoder("ResNet18Encoder")
    torch.save({"epoch": 7, "model_state_dict": source.state_dict()}, tmp_path / "encoder.ckpt")
    torch.save(
        {
            "state_dict": {f"encoder.{k}": v for k, v in source.state_dict().items()}
            | {"projector.x": torch.ones(1)}
        },
        tmp_path / "l.ckpt",
    )
    for name in ("encoder.ckpt", "l.ckpt"):
        target = build_encoder("ResNet18Encoder")
        load_encoder_weights(target, tmp_path / name)
        assert all(
            torch.equal(a, b)
            for a, b in zip(source.state_dict().values(), target.state_dict().values())
        )


def test_mismatch_names_the_keys(tmp_path):
    state = build_encoder("ResNet18Encoder").state_dict()
    state["model.surprise"] = state.pop("model.conv1.weight")
    state["model.bn1.weight"] = torch.ones(3)
    torch.save({"epoch": 0, "model_state_dict": state}, tmp_path / "e.ckpt")
    with pytest.raises(
        EncoderFileError,
        match=r"missing keys: model.conv1.weight; unexpected keys: model.surprise; "
        r".*shape: model.bn1.weight",
    ):
        load_encoder_weights(build_encoder("ResNet18Encoder"), tmp_path / "e.ckpt")


def test_events_of_pretraining_are_loaded_with_the_weights(tmp_path):
    encoder = build_encoder("CompactEncoder")
    file = {"epoch": 1, "model_state_dict": encoder.state_dict()}
    lightning = {
        "state_dict": {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    }
    for content in (file, lightning):
        torch.save(content, tmp_path / "of_before.ckpt")
        assert load_encoder_weights(encoder, tmp_path / "of_before.ckpt").seen_events is None
        torch.save(content | {"seen_events": [-(2**63), 7]}, tmp_path / "new.ckpt")
        assert load_encoder_weights(encoder, tmp_path / "new.ckpt").seen_events == [-(2**63), 7]
    for strange in ("all", ["a"], [[1]], torch.ones(2), {}):
        torch.save(file | {"seen_events": strange}, tmp_path / "strange.ckpt")
        with pytest.raises(
            EncoderFileError, match="strange.ckpt: seen_events is no list of integers"
        ):
            load_encoder_weights(encoder, tmp_path / "strange.ckpt")


def test_images_of_the_training_are_found_in_encoder_files_and_checkpoints(tmp_path):
    images = {"sampling_rate_hz": 100.0, "nperseg": 20, "highpass_hz": 1.0, "resize_size": None}
    LogSpectrogram(**images)  # these are its arguments
    encoder = build_encoder("CompactEncoder")
    weights = {"epoch": 1, "model_state_dict": encoder.state_dict()}
    files = {
        "encoder": weights | {"spectrogram": images},
        "last": weights | {"hyper_parameters": {"spectrogram": images}},
        "old": weights,
        "strange": weights | {"spectrogram": 5},
    }
    found = {}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        found[name] = load_encoder_weights(encoder, tmp_path / name).spectrogram
    assert found == {"encoder": images, "last": images, "old": None, "strange": None}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    weights = build_encoder("CompactEncoder").state_dict()
    weights["model.bn1.bias"][3] = value
    torch.save({"epoch": 1, "model_state_dict": weights}, tmp_path / "e.ckpt")
    message = "1 of 72 weights are not finite.*first model.bn1.bias.*training diverged"
    with pytest.raises(EncoderFileError, match=message):
        load_encoder_weights(build_encoder("CompactEncoder"), tmp_path / "e.ckpt")


class Malicious:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def test_hostile_and_broken_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = build_encoder("ResNet18Encoder")
    torch.save({"model_state_dict": Malicious()}, "evil.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save({"weights": 1}, "other.ckpt")
    torch.save([1, 2], "list.ckpt")
    for number, content in enumerate((b".", b"\x80", b"\x80\x02X\x05")):
        (tmp_path / f"odd{number}.ckpt").write_bytes(content)
    whole = {"model_state_dict": encoder.state_dict()}
    torch.save(whole, "whole.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:-1000])
    torch.save({"model_state_dict": encoder.state_dict() | {1: torch.ones(1)}}, "numbered.ckpt")
    torch.save({"state_dict": {1: torch.ones(1)}}, "lightning.ckpt")
    sparse = {"model.conv1.weight": torch.zeros(64, 1, 7, 7).to_sparse()}
    torch.save({"model_state_dict": encoder.state_dict() | sparse}, "sparse.ckpt")
    without_content = {"model.conv1.weight": torch.zeros(64, 1, 7, 7, device="meta")}
    torch.save({"model_state_dict": encoder.state_dict() | without_content}, "meta.ckpt")
    names = (
        "evil",
        "text",
        "empty",
        "other",
        "list",
        "absent",
        "odd0",
        "odd1",
        "odd2",
        "cut",
        "numbered",
        "lightning",
        "sparse",
        "meta",
    )
    for name in (f"{name}.ckpt" for name in names):
        with pytest.raises(EncoderFileError, match=name):
            load_encoder_weights(encoder, name)
    assert not (tmp_path / "pwned").exists()


def test_stem_stride_keeps_the_resolution_and_goes_with_the_weights(tmp_path):
    gentle = build_encoder("ResNet18Encoder", stem_stride=1)
    assert gentle.model.conv1(torch.rand(1, 1, 41, 228)).shape[-2:] == (41, 228)
    assert gentle(torch.rand(2, 1, 41, 22)).shape == (2, 512)
    path = tmp_path / "encoder.ckpt"
    torch.save({"epoch": 1, "model_state_dict": gentle.state_dict(), "stem_stride": 1}, path)
    load_encoder_weights(build_encoder("ResNet18Encoder", stem_stride=1), path)
    with pytest.raises(
        EncoderFileError, match="was trained with stem_stride 1; set load_encoder.stem_stride"
    ):
        load_encoder_weights(build_encoder("ResNet18Encoder"), path)
    lightning = tmp_path / "last.ckpt"
    weights = {f"encoder.{name}": value for name, value in gentle.state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": {"stem_stride": 1}}, lightning)
    with pytest.raises(EncoderFileError, match="stem_stride 1"):
        load_encoder_weights(build_encoder("ResNet18Encoder"), lightning)


@pytest.mark.parametrize("depth", DEPTHS)
def test_weights_and_outputs_are_those_of_torchvision(depth):
    torch.manual_seed(0)
    ours = ResNet(depth, n_classes=5)
    torch.manual_seed(0)
    reference = getattr(torchvision.models, depth.lower())(weights=None, num_classes=5)
    expected = reference.state_dict()
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(found, expected[name]) for name, found in ours.state_dict().items())
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), reference(images))  # and BatchNorm's statistics follow
        assert torch.equal(ours.eval()(images), reference.eval()(images))
