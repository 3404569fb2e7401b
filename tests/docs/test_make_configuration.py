import runpy
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from tests.conftest import CONFIGS, ROOT
from utils.config_types import Count, FilePath, Share, key

SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))
allowed_values, describe_keys = SCRIPT["allowed_values"], SCRIPT["describe_keys"]
reference_table = SCRIPT["reference_table"]


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


class Rates(BaseModel):
    fast: float = Field(description="Fast one.")
    slow: float = Field(description="Slow one.")


class Part(BaseModel):
    size: Count = key(3, "How large.")
    shape: Literal["round", "square"] = key("round", "Which shape.")


class LargePart(Part):
    size: Count = 30


class First(BaseModel):
    path: FilePath | None = key(None, "Where.")
    part: Part = key(Part(), "A section.")
    rate: Annotated[float, Field(gt=0)] = key(1e-3, "How fast.")


class Second(BaseModel):
    part: LargePart = key(LargePart(), "A section.")
    rate: Annotated[float, Field(gt=0)] | Rates = key(Rates(fast=1, slow=0.5), "How fast.")
    flags: tuple[bool, ...] = key((True, False), "Which.")


def test_a_table_has_every_key_once_and_says_where_configurations_differ():
    rows = reference_table({"a": First, "b": Second}).splitlines()
    assert rows == [
        "| key | meaning | default | allowed | in |",
        "| --- | --- | --- | --- | --- |",
        "| `path` | Where. | `null` | path or `null` | a |",
        "| **part** | A section. |  |  | all |",
        "| `part.size` | How large. | a: `3`; b: `30` | whole number ≥ 1 | all |",
        "| `part.shape` | Which shape. | `round` | `round`, `square` | all |",
        "| `rate` | How fast. | a: `0.001`; b: `{fast: 1, slow: 0.5}` "
        "| a: number > 0; b: number > 0 or `fast` and `slow` | all |",
        "| `rate.fast` | Fast one. | `1` | number | b |",
        "| `rate.slow` | Slow one. | `0.5` | number | b |",
        "| `flags` | Which. | `[true, false]` | list of: `true`, `false` | b |",
    ]


def test_one_configuration_needs_no_column_of_names():
    header, _, first, *_ = reference_table({"a": First}).splitlines()
    assert header == "| key | meaning | default | allowed |"
    assert first == "| `path` | Where. | `null` | path or `null` |"


def test_a_changed_default_keeps_the_meaning():
    assert describe_keys(LargePart)["size"] == ("How large.", "`30`", "whole number ≥ 1")


def test_limits_are_written_lower_first():
    assert allowed_values(Annotated[float, Field(le=2), Field(gt=0)]) == "number > 0, ≤ 2"
    share_to_texts = dict[Share, tuple[str, ...]]
    assert allowed_values(share_to_texts) == "mapping of number > 0, < 1 to list of: text"
