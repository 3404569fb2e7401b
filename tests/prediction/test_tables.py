import json

import pytest

from prediction.tables import Table
from utils.errors import UserError

ROWS = [{"file": "a, b.dat", "p": 0.25}, {"file": 'c "d"\nø', "p": ""}, {"file": "e", "p": 1}]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_whatever_a_kill_leaves_the_table_goes_on(tmp_path, form):
    whole = Table(tmp_path / "whole", ["file", "p"], form)
    assert whole.begin() == []
    for row in ROWS:
        whole.write([row])
    content = whole.path.read_bytes()
    for cut in range(len(content) + 1):
        table = Table(tmp_path / "cut", ["file", "p"], form)
        table.path.write_bytes(content[:cut])
        done = {row["file"] for row in table.begin(resume=True)}
        assert done <= {row["file"] for row in ROWS}, cut
        table.write([row for row in ROWS if row["file"] not in done])
        assert table.path.read_bytes() == content, cut


def test_existing_tables_and_other_columns_are_refused(tmp_path):
    table = Table(tmp_path / "t.csv", ["file", "p"])
    table.begin()
    with pytest.raises(
        UserError,
        match=r"t.csv: exists; choose another name, remove it, or go on with it by --resume",
    ):
        table.begin()
    with pytest.raises(UserError, match="has other columns"):
        Table(table.path, ["file", "q"]).begin(resume=True)


def test_json_has_one_object_a_line(tmp_path):
    table = Table(tmp_path / "t.json", ["file", "p"], "json")
    table.begin()
    table.write(ROWS)
    assert [json.loads(line) for line in table.path.read_text().splitlines()] == ROWS


@pytest.mark.parametrize(
    ("text", "line"),
    [("file,p\na,0.5\n", 1), ("notes", 1), ('{"file": "a", "p": 1}\n[1]\n', 2)],
)
def test_a_file_that_is_no_table_is_refused_and_kept(tmp_path, text, line):
    place = tmp_path / "t"
    place.write_text(text)
    with pytest.raises(UserError, match=f"t: line {line} is not a JSON object.*another name"):
        Table(place, ["file", "p"], "json").begin(resume=True)
    if "p\n" not in text:
        with pytest.raises(UserError, match="has other columns"):
            Table(place, ["file", "p"]).begin(resume=True)
    assert place.read_text() == text
