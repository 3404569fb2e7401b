import pytest

from tests.preprocessing.seisbench_files import seisbench_data


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The real ``seisbench.data``."""
    return seisbench_data(tmp_path_factory.mktemp("seisbench"))
