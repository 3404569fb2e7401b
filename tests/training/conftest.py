import pytest

from tests.conftest import ROOT
from training.grid.grid_config import ReproduceConfig
from utils.config import load_config

PATHS = [
    f"config_ssl={ROOT}/configs/demo_ssl.yaml",
    f"config_ft={ROOT}/configs/demo_finetune.yaml",
    f"config_original={ROOT}/original_implementation/config.yaml",
]


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """A grid of two budgets and two seeds; call it with overrides."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.yaml").write_text(
        "name: g\nlabel_fractions: [0.05, 0.8]\nseeds: [3, 4]\n"
        "overrides: {linear: [exp_params.LR=0.01]}\n"
    )
    return lambda *overrides: load_config(
        tmp_path / "g.yaml", ReproduceConfig, [*PATHS, *overrides]
    )
