"""An empty configuration, and what is said of mistakes."""

import pytest

from tests.conftest import CONFIGS
from utils.config import ConfigError, load_config


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "c.yaml"
    path.write_text("{}\n")
    return path


def mistakes(path, kind, *overrides) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(path, CONFIGS[kind], overrides)
    return [line.strip() for line in str(error.value).splitlines()[1:]]
