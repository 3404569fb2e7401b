import runpy

import pytest

from tests.conftest import CONFIGS, ROOT
from utils.reference import describe_keys

SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))


def test_the_reference_is_current():
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == SCRIPT["configuration_reference"](), "run: make docs"


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_key_has_a_meaning_and_a_row(kind):
    text = SCRIPT["configuration_reference"]()
    for name, entry in describe_keys(CONFIGS[kind]).items():
        assert len(entry.meaning) > 10 and entry.meaning.endswith("."), name
        assert f"\n| `{name}` | {entry.meaning} |" in text or f"\n| **{name}** |" in text


def test_rows_have_the_cells_of_their_header():
    for line in SCRIPT["configuration_reference"]().splitlines():
        if line.startswith("| key"):
            n_cells = line.count("|")
        if line.startswith("|"):
            assert line.count("|") == n_cells, line
