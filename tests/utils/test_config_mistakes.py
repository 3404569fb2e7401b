"""Mistakes in a configuration are named with what is allowed."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import CONFIGS
from tests.utils.conftest import mistakes
from utils.config import ConfigError, YamlError, load_config, parse_yaml
from utils.schema import FinetuneConfig, SSLConfig


@pytest.mark.parametrize(
    ("kind", "override", "expected"),
    [
        (
            "ssl",
            "exp_params.lamda_=3",
            "exp_params.lamda_: unknown key; did you mean exp_params.lambda_?",
        ),
        ("ssl", "datset.batch_size=3", "datset: unknown key; did you mean dataset?"),
        ("ssl", "batch_size=3", "batch_size: unknown key; did you mean dataset.batch_size?"),
        ("finetune", "exp_params.rho=3", "exp_params.rho: unknown key; known here: LR,"),
        (
            "ssl",
            "dataset.return_single_spectrogram_train=false",
            "dataset.return_single_spectrogram_train: found False; pretraining always sees single",
        ),
        (
            "ssl",
            "dataset.return_single_spectrogram_test=false",
            "dataset.return_single_spectrogram_test: found False; pretraining always sees single",
        ),
        (
            "ssl",
            "dataset.batch_size=1",
            "dataset.batch_size: found 1; should be greater than or equal to 2",
        ),
        (
            "ssl",
            "dataset.train_data_ratio=abc",
            "dataset.train_data_ratio: found 'abc'; should be a valid number",
        ),
        ("ssl", "exp_params.mu=yes", "exp_params.mu: found True; should be a number"),
        ("ssl", "exp_params.LR=.nan", "exp_params.LR: found nan; should be"),
        (
            "ssl",
            "exp_params.use_diag_loss=1",
            "exp_params.use_diag_loss: found 1; should be a valid boolean",
        ),
        (
            "ssl",
            "dataset.split=by_hour",
            "dataset.split: found 'by_hour'; should be 'nested', 'random', 'by_day', 'by_group', "
            "'by_time' or 'given'",
        ),
        ("ssl", "model_params.in_channels=3", "model_params.in_channels: found 3; should be 1"),
        (
            "ssl",
            "model_params.out_size_enc=2048",
            "model_params.out_size_enc: found 2048; ResNet34Encoder has 512",
        ),
        (
            "ssl",
            "model_params.proj_out=100",
            "model_params.proj_out: found 100; above 64 it must be a multiple of it",
        ),
        (
            "ssl",
            "model_params.name=VIbCReg",
            "augmentations: found NeighboringCrop; "
            "model VIbCReg needs RandomCrop or WholeEvent, once",
        ),
        (
            "ssl",
            "augmentations=[ToTensor]",
            "augmentations: found no view; model VNIbCReg needs NeighboringCrop",
        ),
        ("ssl", "dataset.is_ssl=false", "dataset.is_ssl: found False"),
        ("finetune", "dataset.is_ssl=true", "dataset.is_ssl: found True"),
        (
            "finetune",
            "augmentations=[NeighboringCrop]",
            "augmentations: found 'NeighboringCrop'; "
            "should be 'RandomTimeShift', 'RandomAmplitudeJitter', 'RandomMask', 'RandomNoise' "
            "or 'ToTensor'",
        ),
        (
            "ssl",
            "dataset.batch_size=64",
            "dataset.batch_size: found 64; IterNorm whitens 64 features together and needs more "
            "events than that. Set it to at least 65, or lower model_params.proj_out below 64",
        ),
        (
            "finetune",
            "exp_params={head: logistic_regression, LR: 0.1}",
            "exp_params.LR: found 0.1; it has no meaning here: logistic regression takes no",
        ),
        (
            "finetune",
            "exp_params.freeze_encoders=true",
            "exp_params.freeze_encoders: found true with load_encoder.ckpt_fname none",
        ),
        ("finetune", "exp_params.LR={encoder: 1e-3}", "exp_params.LR: clf is missing"),
        ("finetune", "exp_params.LR={encoder: 1e-3, clf: 1, c: 2}", "exp_params.LR.c: unknown key"),
        (
            "finetune",
            "exp_params.out_size_enc=2048",
            "exp_params.out_size_enc: found 2048; ResNet34Encoder has 512",
        ),
        (
            "finetune",
            "dataset.train_data_ratio=0.9",
            "dataset.train_data_ratio: 0.9 and test_data_ratio 0.2 exceed 1 together",
        ),
        ("finetune", "dataset.source=folder", "dataset.root: missing"),
        ("finetune", "run_name=../x", "run_name: found '../x'"),
        ("finetune", "trainer_params.gpus=[0, 0]", "trainer_params.gpus: contains duplicates"),
        (
            "finetune",
            "logger=[csv, mlflow]",
            "logger: found 'mlflow'; should be 'csv', 'tensorboard' or 'wandb'",
        ),
        ("original", "dataset.resize=false", None),
        ("finetune", "exp_params.LR={encodr: 1, clf: 1}", "exp_params.LR: encoder is missing"),
        (
            "finetune",
            "exp_params.LR={encoder: 1, clf: 1, encodr: 1}",
            "exp_params.LR.encodr: unknown key; did you mean exp_params.LR.encoder?",
        ),
        (
            "finetune",
            "dataset.n_simulated=500",
            "dataset.n_simulated: found 500; it has no meaning here",
        ),
        ("ssl", "dataset.source=seisbench", "dataset.root: missing; source seisbench needs"),
        ("ssl", "dataset.label_column=kind", "dataset.label_column: found kind; it has no meaning"),
        ("ssl", "dataset.split=by_group", "dataset.split: by_group needs dataset.group_column or"),
        ("ssl", "dataset.group_column=site", "dataset.group_column: found site; it has no meaning"),
        ("ssl", "dataset.group_pattern='(a'", "dataset.group_pattern: found '(a'; should be a reg"),
        ("ssl", "dataset.group_pattern='(a)(b)'", "dataset.group_pattern: found '(a)(b)'; should"),
        ("original", "backbone_with_clf_type=ResNet50", "backbone_with_clf_type: found 'ResNet50'"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(empty, kind, override, expected):
    if expected is None:
        load_config(empty, CONFIGS[kind], [override])
    else:
        assert mistakes(empty, kind, override)[0].startswith(expected)


def test_all_mistakes_at_once(empty):
    found = mistakes(
        empty,
        "original",
        "exp_params.use_class_weight=false",
        "exp_params.zero_weight_classes=[a]",
        "dataset.is_ssl=true",
    )
    assert [line.split(":")[0] for line in found] == [
        "dataset.is_ssl",
        "exp_params.zero_weight_classes",
    ]


def test_keys_without_meaning_are_refused_but_not_their_defaults(empty):
    simulated = (
        "dataset.source=simulated",
        "dataset.max_gap_s=1",
        "dataset.skip_unreadable=false",
        "dataset.root=x",
    )
    assert [line.split(":")[0] for line in mistakes(empty, "finetune", *simulated)] == [
        "dataset.root",
        "dataset.max_gap_s",
    ]
    vibcreg = ("model_params.name=VIbCReg", "augmentations=[RandomCrop]")
    assert mistakes(empty, "ssl", *vibcreg, "exp_params.rho=3")[0].startswith(
        "exp_params.rho: found 3.0; it has no meaning"
    )
    load_config(empty, SSLConfig, vibcreg)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML: line 1: expected ',' or ']'"),
        ("seed: 1\n\n run_name: a", "not valid YAML: line 3: mapping values are not allowed here"),
        ("seed: 1\n\nseed: 2", "line 3: key 'seed' is given twice"),
        ("dataset:\n  root: a\n  source: folder\n  root: b", "line 4: key 'root' is given twice"),
        ("\tseed: 1", "line 1: found character '.t' that cannot start any token"),
        ("seed: 1\n---\nseed: 2", "line 2: but found another document"),
        ("run_name: \0", "not valid YAML: unacceptable character #x0000"),
        ("", "is empty"),
        ("- 1", "should be a mapping"),
        ("seed: !!python/object/apply:os.system ['touch pwned']", "not valid YAML"),
        ("? [a, b]\n: 1", "not valid YAML|mistake"),
        ("seed: 2001-13-45", "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.yaml", SSLConfig)
    assert not (tmp_path / "pwned").exists()


def test_a_file_in_another_encoding_is_no_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("run_name: å\n", encoding="latin-1")
    with pytest.raises(ConfigError, match="c.yaml: not valid YAML: not text in UTF-8 .* byte 10"):
        load_config(tmp_path / "c.yaml", SSLConfig)


@settings(deadline=None)
@given(
    st.text("[]{}:,-?&*!|>'\"%@` \n\ta1=.<", max_size=40),
    st.sampled_from([None, str, tuple[str, ...], dict[str, tuple[str, ...]], FinetuneConfig]),
)
def test_whatever_is_typed_is_a_value_or_a_message(text, schema):
    with contextlib.suppress(YamlError):
        parse_yaml(text, schema)


@pytest.mark.parametrize("name", ["none.yaml", ""])
def test_missing_file_and_broken_override(tmp_path, empty, name):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / name, SSLConfig)
    with pytest.raises(ConfigError, match=r"key\.path=value"):
        load_config(empty, SSLConfig, ["dataset.batch_size"])


@given(
    kind=st.sampled_from(["ssl", "finetune", "original"]),
    key=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12),
    section=st.sampled_from(["", "dataset.", "exp_params.", "trainer_params."]),
)
def test_no_unknown_key_is_ever_accepted(empty, kind, key, section):
    model = CONFIGS[kind]
    known = (
        model.model_fields
        if not section
        else model.model_fields[section[:-1]].annotation.model_fields
    )
    if key not in known:
        assert any(
            line.startswith(f"{section}{key}: unknown key")
            for line in mistakes(empty, kind, f"{section}{key}=1")
        )
