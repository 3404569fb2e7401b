import sys

import pytest
from tqdm import tqdm

from utils.progress import progress_bar


class Terminal:
    """What a bar needs of a terminal."""

    def __init__(self):
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns on; tqdm asks it for the time."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_line_a_minute_without_a_terminal(clock, capsys):
    for _ in progress_bar(range(600), desc="Packing", unit="event"):
        clock[0] += 0.5  # five minutes in all
    lines = capsys.readouterr().err.splitlines()
    assert 5 <= len(lines) <= 6 and lines[0].startswith("Packing: 1")
    assert "of 600 event in 01:00, 04:00 left" in lines[0] and "600 of 600" in lines[-1]
    assert not any("\r" in line or "█" in line for line in lines)


def test_what_takes_less_than_a_minute_writes_nothing(clock, capsys):
    bar = progress_bar(total=3, desc="Short")
    for _ in range(3):
        clock[0] += 10
        bar.update()
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = progress_bar(total=3, desc="Packing", mininterval=0)
    bar.update(3)
    bar.close()
    assert type(bar) is tqdm and "\r" in terminal.text and "3/3" in terminal.text


def test_the_number_of_a_shared_bar_may_be_set(clock, capsys):
    """reproduce.py sets ``n`` and the names of what is running."""
    bar = progress_bar(total=8, desc="Training", unit="epoch")
    clock[0] += 70
    bar.n = 4
    for _ in range(5):  # every second
        bar.set_postfix_str("one, two")
    assert capsys.readouterr().err == "Training: 4 of 8 epoch in 01:10, 01:10 left, one, two\n"
    bar.close()
