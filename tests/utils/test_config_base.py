"""A configuration may name another as its base and hold only what differs."""

from pathlib import Path

import pytest

from tests.conftest import CONFIGS, ROOT
from utils.config import ConfigError, load_config
from utils.schema import FinetuneConfig, SSLConfig


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_sections_are_merged_and_other_values_replaced(write):
    write("low.yaml", "seed: 1\nlogger: [wandb, csv]\nexp_params: {mu: 3, nu: 5}\n")
    path = write("high.yaml", "base: low.yaml\nlogger: [csv]\nexp_params: {mu: 4}\nrun_name: a\n")
    config = load_config(path, SSLConfig)
    assert (config.seed, config.run_name, config.logger) == (1, "a", ("csv",))
    assert (config.exp_params.mu, config.exp_params.nu, config.exp_params.rho) == (4, 5, 13)
    assert "base" not in config.model_dump()


def test_a_section_replaces_a_number_and_a_number_a_section(write):
    write("low.yaml", "exp_params: {LR: {encoder: 1e-4, clf: 2e-4}}\n")
    both = write("both.yaml", "base: low.yaml\nexp_params: {LR: {clf: 3e-4}}\n")
    number = write("number.yaml", "base: both.yaml\nexp_params: {LR: 1e-2}\n")
    again = write("again.yaml", "base: number.yaml\nexp_params: {LR: {encoder: 1, clf: 2}}\n")
    found = [load_config(path, FinetuneConfig).exp_params.LR for path in (both, number, again)]
    assert (found[0].encoder, found[0].clf, found[1]) == (1e-4, 3e-4, 1e-2)
    assert (found[2].encoder, found[2].clf) == (1, 2)


def test_a_base_is_found_from_the_file_that_names_it(write, tmp_path, monkeypatch):
    write("ground/low.yaml", "seed: 1\n")
    write("middle/mid.yaml", "base: ../ground/low.yaml\nexp_params: {mu: 3}\n")
    path = write("high.yaml", f"base: {tmp_path}/middle/mid.yaml\nexp_params: {{nu: 5}}\n")
    monkeypatch.chdir("/")
    config = load_config(path, SSLConfig, ["exp_params.mu=7"])
    assert (config.seed, config.exp_params.mu, config.exp_params.nu) == (1, 7, 5)


def test_an_override_of_a_section_of_two_files_changes_neither(write):
    low = write("low.yaml", "exp_params: &e {mu: 3}\n")
    high = write("high.yaml", "base: low.yaml\n")
    assert load_config(high, SSLConfig, ["exp_params.mu=4"]).exp_params.mu == 4
    assert load_config(low, SSLConfig).exp_params.mu == 3


@pytest.mark.parametrize("n_files", [1, 3])
def test_a_circle_is_refused(write, n_files):
    for number in range(n_files):
        write(f"{number}.yaml", f"base: ./{(number + 1) % n_files}.yaml\n")
    path = write("start.yaml", "base: 0.yaml\n")
    with pytest.raises(ConfigError, match="start.yaml: base leads in a circle: ") as error:
        load_config(path, SSLConfig)
    names = [Path(part).name for part in str(error.value).partition("circle: ")[2].split(" -> ")]
    assert names == ["start.yaml", *(f"{number}.yaml" for number in range(n_files)), "0.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: none.yaml", r"high.yaml: base: \S*none.yaml: cannot be read \(No such file"),
        ("base: .", r"high.yaml: base: \S*: cannot be read \(Is a directory"),
        ("base: list.yaml", r"high.yaml: base: \S*list.yaml: should be a mapping"),
        ("base: broken.yaml", r"high.yaml: base: \S*broken.yaml: not valid YAML"),
        ("base:", "high.yaml: base: found None; should be the path of a YAML file"),
        ("base: ''", "high.yaml: base: found ''; should be"),
        ("base: [low.yaml]", r"high.yaml: base: found \['low.yaml'\]; should be"),
        ('base: "a\\0b"', r"high.yaml: base: found 'a\\x00b'; should be"),
    ],
)
def test_a_base_that_cannot_be_used_is_named_with_who_asks_for_it(write, text, message):
    write("list.yaml", "- 1\n")
    write("broken.yaml", "a: [1\n")
    with pytest.raises(ConfigError, match=message):
        load_config(write("high.yaml", text + "\n"), SSLConfig)


def test_mistakes_of_a_base_are_found(write):
    write("low.yaml", "exp_params: {lamda_: 3}\n")
    with pytest.raises(ConfigError, match=r"exp_params.lamda_: unknown key; did you mean"):
        load_config(write("high.yaml", "base: low.yaml\n"), SSLConfig)


def test_the_command_line_has_no_base(write):
    with pytest.raises(ConfigError, match="base: unknown key"):
        load_config(write("low.yaml", "{}\n"), SSLConfig, ["base=low.yaml"])


NATIVE = {"dataset.resize": False}
SIMULATED = {
    "dataset.source": "simulated",
    "dataset.n_simulated": 1000,
    "dataset.preload": "ram",
    "dataset.num_workers": 0,
    "run_name": "demo",
}
FEW_LABELS_SSL = {
    **NATIVE,
    "run_name": "few_labels",
    "model_params.name": "VIbCReg",
    "model_params.backbone_type": "CompactEncoder",
    "model_params.proj_hid": 512,
    "model_params.proj_out": 512,
    "exp_params.model_save_ep_period": 400,
    "trainer_params.max_epochs": 400,
    "augmentations": ("WholeEvent", "RandomTimeShift", "RandomAmplitudeJitter"),
}
FEW_LABELS = {
    **NATIVE,
    "run_name": "few_labels",
    "load_encoder.ckpt_fname": "runs/ssl/few_labels/checkpoints/encoder-ep_400.ckpt",
    "load_encoder.backbone_type": "CompactEncoder",
    "exp_params.head": "logistic_regression",
    "dataset.batch_size": 16,
    "augmentations": ("RandomTimeShift",),
}
FEW_LABELS_SCRATCH = {
    **NATIVE,
    "run_name": "few_labels_scratch",
    "load_encoder.backbone_type": "CompactEncoder",
    "exp_params.LR": 1e-3,
    "exp_params.model_save_ep_period": 150,
    "trainer_params.max_epochs": 150,
    "trainer_params.min_steps": 2000,
    "augmentations": ("RandomTimeShift", "RandomAmplitudeJitter", "RandomMask"),
}  # and batches of 64, as in the paper
DIFFERENCES = {
    "ssl_native": NATIVE,
    "finetune_native": NATIVE,
    "few_labels_ssl": FEW_LABELS_SSL,
    "few_labels": FEW_LABELS,
    "few_labels_scratch": FEW_LABELS_SCRATCH,
    "demo_ssl": {
        **FEW_LABELS_SSL,
        **SIMULATED,
        "exp_params.LR": 3e-3,
        "exp_params.model_save_ep_period": 16,
        "trainer_params.max_epochs": 16,
        "dataset.batch_size": 96,
    },
    "demo_finetune": {
        **FEW_LABELS,
        **SIMULATED,
        "load_encoder.ckpt_fname": "runs/ssl/demo/checkpoints/encoder-ep_16.ckpt",
        "dataset.train_data_ratio": 0.05,
    },
}


def flat(tree: dict, prefix: str = "") -> dict:
    """Return a tree as {dotted key: value}."""
    found = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        found |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


@pytest.mark.parametrize("name", DIFFERENCES)
def test_presets_differ_from_the_paper_s_configuration_in_what_they_say(name):
    kind = "ssl" if "ssl" in name else "finetune"
    paths = (ROOT / "configs" / f"{kind}.yaml", ROOT / "configs" / f"{name}.yaml")
    paper, preset = (flat(load_config(path, CONFIGS[kind]).model_dump()) for path in paths)
    assert {key: value for key, value in preset.items() if value != paper.get(key)} == DIFFERENCES[
        name
    ]
