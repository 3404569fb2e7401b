import json

import pytest

from tests.conftest import CONFIGS, ROOT
from training.grid import cells as grid_module
from training.grid.cells import plan_cells
from training.grid.grid_config import ReproduceConfig
from utils.config import ConfigError, load_config
from utils.errors import UserError
from utils.schema import FinetuneConfig


def test_the_grid_is_complete_and_every_cell_is_a_valid_command(grid):
    pretraining, compared = plan_cells(grid())
    assert [cell.run_name for cell in pretraining] == ["g-pretrain-seed3", "g-pretrain-seed4"]
    assert len({cell.folder for cell in compared}) == len(compared) == 2 * 2 * 4
    for cell in compared:
        config = load_config(cell.config, CONFIGS[cell.kind], cell.overrides)
        assert (config.seed, config.dataset.train_test_split_rand_seed) == (cell.seed, cell.seed)
        assert config.dataset.train_data_ratio == cell.budget.fraction
        if cell.kind == "finetune":
            scratch = cell.method == "scratch"
            expected = (
                "none"
                if scratch
                else f"runs/ssl/g-pretrain-seed{cell.seed}/checkpoints/encoder-ep_16.ckpt"
            )
            assert config.load_encoder.ckpt_fname == expected
            assert config.exp_params.freeze_encoders == (cell.method == "linear")
            assert (config.exp_params.LR == 0.01) == (cell.method == "linear")


GRIDS = [ROOT / "configs" / "demo.yaml", *sorted(ROOT.glob("configs/reproduce*.yaml"))]


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_cell_of_the_shipped_grids_is_valid(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no runs here
    for name in ("configs", "original_implementation"):
        (tmp_path / name).symlink_to(ROOT / name)
    _, compared = plan_cells(load_config(path, ReproduceConfig))
    assert len({cell.folder for cell in compared}) == len(compared) > 1


def test_no_pretraining_where_nobody_needs_it(grid):
    assert plan_cells(grid("methods=[original, scratch]"))[0] == []


def test_a_label_fraction_may_have_its_own_overrides(grid):
    _, compared = plan_cells(
        grid("overrides={label_fractions: {0.8: [trainer_params.max_epochs=7]}}")
    )
    epochs = {
        (
            c.budget.fraction,
            load_config(c.config, CONFIGS[c.kind], c.overrides).trainer_params.max_epochs == 7,
        )
        for c in compared
    }
    assert epochs == {(0.05, False), (0.8, True)}
    with pytest.raises(
        ConfigError, match=r"overrides\.label_fractions: found 0\.08; not among label_fractions"
    ):
        grid("overrides={label_fractions: {0.08: [trainer_params.max_epochs=7]}}")


def test_mistakes_in_cells_are_found_before_anything_runs(grid):
    with pytest.raises(ConfigError, match=r"exp_params\.rho"):
        plan_cells(grid("overrides={finetuned: [exp_params.rho=1]}"))
    with pytest.raises(ConfigError, match="seeds: contains duplicates"):
        grid("seeds=[1, 1]")


def test_a_changed_configuration_is_refused(grid):
    _, compared = plan_cells(grid("methods=[scratch]"))
    compared[0].folder.mkdir(parents=True)
    config = load_config(compared[0].config, FinetuneConfig, compared[0].overrides).model_dump(
        mode="json"
    )
    (compared[0].folder / "config.yaml").write_text(json.dumps(config))
    plan_cells(grid("methods=[scratch]"))
    with pytest.raises(UserError, match=r"exp_params.weight_decay: was 0.0, now 0.1"):
        plan_cells(grid("methods=[scratch]", "overrides={scratch: [exp_params.weight_decay=0.1]}"))


RECIPES = (
    f"recipes={{few: {{config_ft: {ROOT}/configs/demo_finetune.yaml, "
    f"config_ssl: {ROOT}/configs/demo_ssl.yaml, overrides_ssl: [exp_params.nu=1]}}, "
    f"twin: {{config_ft: {ROOT}/configs/demo_finetune.yaml, overrides_ft: [exp_params.head=adam], "
    f"config_ssl: {ROOT}/configs/demo_ssl.yaml, overrides_ssl: [exp_params.nu=1]}}, "
    f"alone: {{config_ft: {ROOT}/configs/finetune.yaml}}}}"
)


def test_recipes_are_rows_with_their_own_pretraining(grid):
    pretraining, compared = plan_cells(
        grid("methods=[features, random]", "seeds=[3]", "label_fractions=[0.05]", RECIPES)
    )
    assert [cell.run_name for cell in pretraining] == ["g-few-pretrain-seed3"]  # twin shares it
    configs = {
        cell.method: load_config(cell.config, grid_module.CONFIGS[cell.kind], cell.overrides)
        for cell in compared
    }
    assert set(configs) == {"features", "random", "few", "twin", "alone"}
    encoder = "runs/ssl/g-few-pretrain-seed3/checkpoints/encoder-ep_16.ckpt"
    assert configs["few"].load_encoder.ckpt_fname == encoder
    assert configs["twin"].load_encoder.ckpt_fname == encoder
    heads = (configs["few"].exp_params.head, configs["twin"].exp_params.head)
    assert heads == ("logistic_regression", "adam")
    assert configs["alone"].load_encoder.ckpt_fname == "none"
    assert configs["random"].load_encoder.ckpt_fname == "none"
    assert configs["random"].exp_params.head == "logistic_regression"
    with pytest.raises(ConfigError, match=r"recipes\.linear: is the name of a method"):
        grid("recipes={linear: {}}")


def test_label_draws_and_events_per_class_are_further_cells(grid):
    overrides = ("label_draws=[0, 1, 2]", "events_per_class=[5]", "label_fractions=[0.06]")
    pretraining, compared = plan_cells(grid("methods=[logistic, scratch]", "seeds=[3]", *overrides))
    assert len(pretraining) == 1 and len({cell.folder for cell in compared}) == 2 * 3 * 2
    found = set()
    for cell in compared:
        data = load_config(cell.config, CONFIGS[cell.kind], cell.overrides).dataset
        assert data.train_test_split_rand_seed == 3
        found.add((data.label_draw_seed, data.train_events_per_class, data.train_data_ratio))
    assert found == {(d, *rest) for d in range(3) for rest in ((5, 0.05), (None, 0.06))}
    with pytest.raises(ConfigError, match="label_fractions: is empty"):
        grid("label_fractions=[]")
