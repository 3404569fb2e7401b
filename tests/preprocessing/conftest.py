import numpy as np
import pytest

from tests.conftest import write_mseed
from tests.preprocessing.seisbench_files import seisbench_data


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The real ``seisbench.data``."""
    return seisbench_data(tmp_path_factory.mktemp("seisbench"))


@pytest.fixture
def folder(tmp_path):
    """Two classes, events of 2 to 4 channels and 9 to 11 s."""
    rng = np.random.default_rng(1)
    for label, n in (("Rock", 3), ("Quake", 4)):
        for number in range(n):
            samples = rng.normal(size=(2 + number % 3, 900 + 100 * (number % 3))).astype(np.float32)
            write_mseed(
                tmp_path / "events" / label / f"2020_00{number}_x.mseed",
                samples,
                start=f"2020-01-0{number + 1}",
            )
    (tmp_path / "events" / "README.md").write_text("not a class")
    (tmp_path / "events" / "Rock" / ".hidden").write_text("not a recording")
    return tmp_path / "events"
