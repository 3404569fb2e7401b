"""reproduce.py as users type it."""

import json

import pytest

from tests.commands.running import SMALL_ENCODER, SMALL_IMAGES
from tests.conftest import ROOT, run_script


@pytest.mark.slow
def test_the_grid_runs_resumes_and_compares(workplace, separable):
    """Two methods on one fraction; the second start trains nothing and gives the same table."""
    data = [
        "dataset.source=folder",
        f"dataset.root={separable}",
        "dataset.batch_size=16",
        "dataset.train_data_ratio=0.75",
        "dataset.test_data_ratio=0.25",
        *SMALL_IMAGES,
    ]
    lists = {
        "all": [*data, "trainer_params.max_epochs=1"],
        "ssl": SMALL_ENCODER["ssl"],
        "original": SMALL_ENCODER["original"],
    }
    (workplace / "grid.yaml").write_text(
        json.dumps(
            {
                "name": "g",
                "methods": ["original", "finetuned"],
                "label_fractions": [0.5],
                "seeds": [0],
                "overrides": lists,
            }
        )
    )
    arguments = [
        "--config",
        str(workplace / "grid.yaml"),
        f"config_ssl={ROOT}/configs/ssl.yaml",
        f"config_ft={ROOT}/configs/finetune.yaml",
    ]
    arguments.append(f"config_original={ROOT}/original_implementation/config.yaml")
    output = run_script("reproduce.py", *arguments, cwd=workplace)
    assert (
        "| finetuned | 50 % | ensemble |" in output
        and "| original | 50 % | stacked trace |" in output
    )
    folder = workplace / "runs" / "reproduce" / "g"
    table, logs = (
        (folder / "results.md").read_text(),
        {p: p.stat().st_mtime_ns for p in (folder / "logs").iterdir()},
    )
    assert len(logs) == 3 and (folder / "comparison.png").is_file()
    run_script("reproduce.py", *arguments, cwd=workplace)
    assert (folder / "results.md").read_text() == table
    assert {p: p.stat().st_mtime_ns for p in (folder / "logs").iterdir()} == logs
