from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.files import LONGEST_NAME_BYTES, file_name


@given(st.text(max_size=400))
def test_no_text_leads_out_of_a_folder(text):
    name = file_name(text)
    assert Path("folder", f"{name}.png").resolve().parent == Path("folder").resolve()
    assert name and len(name.encode()) <= LONGEST_NAME_BYTES and "\0" not in name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Slope_HF", "Slope_HF"),
        ("a/../../x", "a_.._.._x"),
        ("surface event/rockfall", "surface_event_rockfall"),
        ("..", "_"),
        ("Séisme", "Séisme"),
        ("x" * 240, "x" * LONGEST_NAME_BYTES),
    ],
)
def test_what_cannot_be_a_file_name_is_replaced(text, expected):
    assert file_name(text) == expected
