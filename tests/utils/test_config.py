from typing import get_args

import pytest

from preprocessing.splits import STRATEGIES
from preprocessing.views import AUGMENTATIONS, CHANGES
from tests.conftest import CONFIGS, ROOT
from utils.config import ConfigError, load_config
from utils.dataset_sections import DatasetParams
from utils.schema import FinetuneConfig, SSLConfig

SHIPPED = {
    "ssl": ROOT / "configs" / "ssl.yaml",
    "finetune": ROOT / "configs" / "finetune.yaml",
    "original": ROOT / "original_implementation" / "config.yaml",
}


def test_shipped_configs_are_the_papers():
    ssl, finetune, original = (load_config(path, CONFIGS[kind]) for kind, path in SHIPPED.items())
    assert (
        ssl.model_params.backbone_type == "ResNet34Encoder" and ssl.trainer_params.max_epochs == 300
    )
    assert (ssl.exp_params.lambda_, ssl.exp_params.mu, ssl.exp_params.nu, ssl.exp_params.rho) == (
        10,
        10,
        10,
        13,
    )
    assert (ssl.dataset.batch_size, ssl.exp_params.LR, ssl.dataset.train_data_ratio) == (
        128,
        1e-3,
        0.8,
    )
    assert (
        finetune.load_encoder.from_scratch
        and finetune.load_encoder.backbone_type == "ResNet34Encoder"
    )
    assert (finetune.trainer_params.max_epochs, finetune.dataset.batch_size) == (100, 64)
    assert finetune.learning_rates == {"encoder": 1e-3, "clf": 1e-3}
    assert (original.backbone_with_clf_type, original.trainer_params.max_epochs) == ("ResNet34", 50)
    assert (original.exp_params.weight_decay, original.exp_params.LR) == (1e-4, 1e-3)
    assert {config.dataset.source for config in (ssl, finetune, original)} == {"aknes"}
    assert {config.trainer_params.precision for config in (ssl, finetune, original)} == {"32-true"}


@pytest.mark.parametrize(
    "name",
    ["demo_ssl", "demo_finetune", "demo", "reproduce", "reproduce_simulated", "reproduce_sizes"],
)
def test_the_other_shipped_configs_are_valid(name):
    kind = {"demo_ssl": "ssl", "demo_finetune": "finetune"}.get(name, "reproduce")
    config = load_config(ROOT / "configs" / f"{name}.yaml", CONFIGS[kind])
    if name == "reproduce":
        assert config == CONFIGS["reproduce"]()
    if name in ("reproduce_simulated", "reproduce_sizes"):  # fast where bf16 is, and nowhere slow
        overrides = config.overrides.model_dump_json()
        assert "trainer_params.precision=auto" in overrides and "bf16" not in overrides


@pytest.mark.parametrize("kind", SHIPPED)
def test_defaults_equal_the_shipped_values(kind, empty):
    """A key left out means what the shipped file says, but for what only concerns the machine."""
    ours, shipped = (
        load_config(path, CONFIGS[kind]).model_dump() for path in (empty, SHIPPED[kind])
    )
    for tree in (ours, shipped):
        for key in ("num_workers",):
            tree["dataset"].pop(key)
        tree["exp_params"].pop("model_save_ep_period")
        tree.get("model_params", {}).pop("out_size_enc", None)
    assert ours == shipped


def test_names_agree_with_the_code():
    assert get_args(DatasetParams.model_fields["split"].annotation) == STRATEGIES
    allowed, _ = get_args(SSLConfig.model_fields["augmentations"].annotation)
    names = {name for literal in get_args(allowed) for name in get_args(literal)}
    assert names == set(AUGMENTATIONS)
    classifier, _ = get_args(FinetuneConfig.model_fields["augmentations"].annotation)
    assert set(get_args(classifier)) == {*CHANGES, "ToTensor"}


def test_overrides_and_yaml_numbers(empty):
    config = load_config(
        empty,
        FinetuneConfig,
        ["exp_params.LR={encoder: 1e-4, clf: 2e-3}", "load_encoder.ckpt_fname=e.ckpt", "seed=7"],
    )
    assert config.learning_rates == {"encoder": 1e-4, "clf": 2e-3} and config.seed == 7
    assert load_config(empty, FinetuneConfig, ["exp_params.LR=1e-3"]).learning_rates == {
        "encoder": 1e-3,
        "clf": 1e-3,
    }
    assert (
        load_config(empty, SSLConfig, ["model_params.name=VIbCRegTNC"]).model_params.name
        == "VIbCRegTNC"
    )


@pytest.mark.parametrize("typed", ["2024", "1e3", "1.50", "on", "2024-01-01", "007", "1_000"])
@pytest.mark.parametrize(("kind", "key"), [("finetune", "run_name"), ("reproduce", "name")])
def test_a_name_is_the_text_that_was_typed(tmp_path, empty, kind, key, typed):
    """Whatever YAML would take it for: a number, a switch, a date."""
    (tmp_path / "named.yaml").write_text(f"{key}: {typed}\n")
    assert getattr(load_config(tmp_path / "named.yaml", CONFIGS[kind]), key) == typed
    assert getattr(load_config(empty, CONFIGS[kind], [f"{key}={typed}"]), key) == typed


def test_other_keys_and_null_are_what_yaml_says(tmp_path, empty):
    (tmp_path / "named.yaml").write_text(
        "seed: &a 5\nrun_name: *a\ndataset: {source: folder, root: 2007}\n"
    )
    config = load_config(tmp_path / "named.yaml", FinetuneConfig)
    assert (config.seed, config.run_name, config.dataset.root) == (5, "5", "2007")
    assert load_config(empty, FinetuneConfig, ["run_name=null"]).run_name is None


def test_a_published_configuration_of_pretraining_loads(tmp_path):
    published = tmp_path / "ssl.yaml"
    text = SHIPPED["ssl"].read_text()
    keys = "  return_single_spectrogram_train: True\n  return_single_spectrogram_test: True\n"
    published.write_text(text.replace("dataset:\n", "dataset:\n" + keys))
    assert load_config(published, SSLConfig) == load_config(SHIPPED["ssl"], SSLConfig)


def test_a_seisbench_dataset_keeps_its_rate_unless_another_is_wanted(empty):
    given = ("dataset.source=seisbench", "dataset.root=x")
    assert load_config(empty, SSLConfig, given).dataset.sampling_freq is None
    wanted = (*given, "dataset.sampling_freq=50")
    assert load_config(empty, SSLConfig, wanted).dataset.sampling_freq == 50


def test_aliases_name_the_same_value_but_an_override_reaches_one(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("exp_params: &same {out_size_enc: 512}\nmodel_params: *same\n")
    with pytest.raises(ConfigError, match="exp_params.out_size_enc: found 2048") as error:
        load_config(path, SSLConfig, ["exp_params.out_size_enc=2048"])
    assert "model_params.out_size_enc" not in str(error.value)
