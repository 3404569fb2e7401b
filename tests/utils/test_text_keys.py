"""Where the schema has text, whatever is typed is text, in files and in overrides."""

import pytest
import yaml

from prediction.predict_config import PredictConfig
from tests.conftest import CONFIGS
from tests.utils.conftest import mistakes
from training.grid.grid_config import ReproduceConfig
from utils.config import load_config
from utils.schema import FinetuneConfig

# YAML takes them for numbers, an octal number, a date, switches, nothing, a merge key
NAMES = ["1", "007", "1e3", "1.50", "1_000", "2024-01-01", "true", "on", "NO", "null", "~"]


@pytest.fixture
def written(tmp_path):
    """Return a function that writes text to a file and returns its path."""

    def write(text):
        path = tmp_path / "written.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("typed", NAMES)
def test_a_class_in_a_list_has_the_name_that_was_typed(written, empty, typed):
    file = written(f"exp_params:\n  zero_weight_classes:\n    - {typed}\n    - b\n")
    for config in (
        load_config(file, FinetuneConfig),
        load_config(empty, FinetuneConfig, [f"exp_params.zero_weight_classes=[{typed}, b]"]),
        load_config(empty, FinetuneConfig, [f"exp_params={{zero_weight_classes: [{typed}, b]}}"]),
    ):
        assert config.exp_params.zero_weight_classes == (typed, "b")


@pytest.mark.parametrize("typed", NAMES)
def test_a_class_of_a_mapping_has_the_name_that_was_typed(written, empty, typed):
    file = written(f"event_types:\n  {typed}: ice quake\n")
    overrides = [f"event_types={{{typed}: ice quake}}"]
    if "." not in typed:  # which divides the key of an override
        overrides.append(f"event_types.{typed}=ice quake")
    for config in (
        load_config(file, PredictConfig),
        *(load_config(empty, PredictConfig, [override]) for override in overrides),
    ):
        assert config.event_types == {typed: "ice quake"}


@pytest.mark.parametrize("typed", [name for name in NAMES if name not in ("null", "~")])
@pytest.mark.parametrize(
    ("kind", "key", "needed"),
    [
        ("finetune", "dataset.root", ["dataset.source=folder"]),
        ("finetune", "dataset.label_column", ["dataset.source=seisbench", "dataset.root=a"]),
        ("finetune", "load_encoder.ckpt_fname", []),
        ("predict", "catalogue.author", []),
        ("reproduce", "config_ft", []),
    ],
)
def test_a_key_has_the_text_that_was_typed(written, empty, kind, key, needed, typed):
    *sections, last = key.split(".")
    opened = "".join(f"{section}: {{" for section in sections)
    file = written(opened + f"{last}: {typed}" + "}" * len(sections))
    for config in (
        load_config(file, CONFIGS[kind], needed),
        load_config(empty, CONFIGS[kind], [*needed, f"{key}={typed}"]),
    ):
        for part in key.split("."):
            config = getattr(config, part)
        assert config == typed


def test_null_is_no_value_for_a_key_and_refused_where_one_is_needed(written, empty):
    for nothing in ("null", "~", ""):
        config = load_config(empty, FinetuneConfig, [f"run_name={nothing}"])
        assert config.run_name is None
        config = load_config(empty, FinetuneConfig, [f"exp_params.zero_weight_classes={nothing}"])
        assert config.exp_params.zero_weight_classes is None
        found = mistakes(empty, "finetune", f"load_encoder.ckpt_fname={nothing}")
        assert found == ["load_encoder.ckpt_fname: found None; should be a valid string"]
    file = written("exp_params:\n  zero_weight_classes:\n    -\n    - b\n")
    found = mistakes(file, "finetune")
    assert found == ["exp_params.zero_weight_classes: found None; should be a valid string"]


def test_names_of_recipes_and_texts_in_their_lists(empty):
    typed = "recipes={1: {config_ft: 5, overrides_ft: [7]}}"
    recipe = load_config(empty, ReproduceConfig, [typed]).recipes["1"]
    assert (recipe.config_ft, recipe.overrides_ft) == ("5", ("7",))


def test_numbers_stay_numbers_beside_text(empty):
    typed = "overrides={label_fractions: {0.8: [seed=1]}}"
    config = load_config(empty, ReproduceConfig, [typed, "label_fractions=[0.8]"])
    assert config.overrides.label_fractions == {0.8: ("seed=1",)}


def test_an_alias_is_text_in_one_place_and_a_switch_in_another(written):
    file = written("exp_params: {use_class_weight: &a true, zero_weight_classes: [*a]}\n")
    params = load_config(file, FinetuneConfig).exp_params
    assert params.use_class_weight is True and params.zero_weight_classes == ("true",)


def test_a_merged_mapping_has_text_too(written):
    file = written("event_types: {<<: {1: collapse}, 2: crash}\n")
    assert load_config(file, PredictConfig).event_types == {"1": "collapse", "2": "crash"}


def test_one_class_is_not_named_twice(written):
    for twice in ("{1: crash, 1: crash}", "{1: crash, '1': crash}"):
        with pytest.raises(ValueError, match="key '1' is given twice"):
            load_config(written(f"event_types: {twice}\n"), PredictConfig)


def test_a_stored_configuration_is_read_as_it_was_written(written):
    classes = ("1", "007", "true", "null", "~", "2024-01-01", "NO")
    config = FinetuneConfig(exp_params={"zero_weight_classes": classes}, run_name="1e3")
    file = written(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True))
    assert load_config(file, FinetuneConfig) == config
