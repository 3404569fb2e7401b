"""Runs that several tests of the commands look at."""

import pytest

from tests.commands.running import run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def pretrained(workplace, separable):
    periods = ["exp_params.knn_acc_record_ep_period=15", "exp_params.model_save_ep_period=15"]
    output = run(
        "ssl", separable, "pre", "exp_params.LR=3e-3", *periods, cwd=workplace, epochs=30, new=True
    )
    return workplace / "runs" / "ssl" / "pre", output
