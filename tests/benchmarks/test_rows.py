"""Which rows the benchmarks measure, at which sizes, and how rows follow from seconds."""

import sys
from contextlib import contextmanager

import pytest
import torch

import models.vnibcreg
from benchmarks import command_rows, network_rows, speed, timing
from benchmarks.command_rows import write_noise
from benchmarks.network_rows import compact_rows
from benchmarks.timing import Row, to_markdown
from benchmarks.work import PAPER, QUICK, SMALL, Work


@pytest.fixture
def work(tmp_path):
    return Work(SMALL, [], write_noise(tmp_path / "noise", 2))


@contextmanager
def in_this_process(make, *arguments):
    yield make(*arguments)


@pytest.mark.parametrize("units", [True, False])
def test_compact_rows_use_bf16_where_it_has_units_only(monkeypatch, work, units):
    autocast, used = network_rows.torch.autocast, []

    def watch(device, dtype=None, enabled=True):
        used.append(enabled and dtype is torch.bfloat16)
        return autocast(device, dtype, enabled=enabled)

    monkeypatch.setattr(network_rows, "has_bf16", lambda device: units)
    monkeypatch.setattr(network_rows.torch, "autocast", watch)
    names = [row.what for row in compact_rows(work)]
    kinds = [f"{what.split(',')[0]}, {what.split(', ')[-1]}" for what in names]
    precisions = ("float32", "bf16-mixed")[: 2 if units else 1]
    parts = ("supervised step", "ensemble evaluation")
    assert kinds == [f"{part}, {precision}" for part in parts for precision in precisions]
    assert all("CompactEncoder" in name and "41 x 228" in name for name in names)
    assert any(used) == units


@pytest.mark.parametrize("units", [True, False])
@pytest.mark.parametrize("rows", [network_rows.ssl_step_rows, network_rows.supervised_step_rows])
def test_steps_use_bf16_where_it_has_units_only(monkeypatch, work, rows, units):
    used = []

    def no_step(module, loss, precision="float32"):
        used.append(precision)
        return lambda: 1.0

    monkeypatch.setattr(network_rows, "has_bf16", lambda device: units)
    monkeypatch.setattr(network_rows, "optimiser_step", no_step)
    monkeypatch.setattr(network_rows, "own_process", in_this_process)
    # the published step replaces this; monkeypatch puts it back afterwards
    monkeypatch.setattr(models.vnibcreg, "covariance_loss", models.vnibcreg.covariance_loss)
    monkeypatch.setattr(network_rows, "large_convolution", lambda *kind: (lambda: None, 1))
    names = [row.what for row in rows(work)]
    assert len(names) == (4 if units else 2) and sum("float32" in name for name in names) == 2
    assert set(used) == {"float32", "bf16-mixed"} if units else {"float32"}


@pytest.mark.parametrize(
    ("arguments", "size", "names"),
    [
        ([], QUICK, [name for name in speed.ROWS if name != "memory"]),
        (["--all"], PAPER, list(speed.ROWS)),
        (["--rows", "memory", "compact"], PAPER, ["memory", "compact"]),
        (["--small"], SMALL, [name for name in speed.ROWS if name not in speed.LONG]),
    ],
)
def test_long_rows_are_measured_on_request_only(monkeypatch, arguments, size, names):
    asked = []
    monkeypatch.setattr(sys, "argv", ["speed", *arguments])
    monkeypatch.setattr(timing, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(speed, "measure", lambda *request: asked.append(request) or iter([]))
    speed.main()
    assert asked == [(names, size, "89da3a0")]


@pytest.mark.parametrize("units", [True, False])
def test_missing_bf16_units_are_said_in_one_line(monkeypatch, capsys, units):
    monkeypatch.setattr(sys, "argv", ["speed"])
    monkeypatch.setattr(timing, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(speed, "has_bf16", lambda device: units)
    monkeypatch.setattr(speed, "measure", lambda *request: iter([]))
    speed.main()
    assert capsys.readouterr().out.count("no bf16 units") == (0 if units else 1)


def test_each_row_is_printed_as_soon_as_it_is_known(capsys, tmp_path):
    seen = []

    def rows():
        for what in ("first", "second"):
            yield Row(what, "", "2 s", "", "≤ 3 s", True)
            seen.append(capsys.readouterr().out)

    timing.report(rows(), tmp_path / "table.md")
    assert seen == [f"[   0 s] {what}: 2 s (goal ≤ 3 s)\n" for what in ("first", "second")]
    assert "| first | 2 s | ≤ 3 s | reached |" in (tmp_path / "table.md").read_text(
        encoding="utf-8"
    )


def test_columns_that_no_row_uses_are_left_out():
    short, full = Row("a", "", "1 s", "", ""), Row("b", "4 s", "2 s", "2 x", "≥ 3 x", False)
    assert to_markdown([short]).splitlines() == ["|  | here |", "| --- | --- |", "| a | 1 s |"]
    assert to_markdown([short, full]).splitlines()[2:] == [
        "| a |  | 1 s |  |  |  |",
        "| b | 4 s | 2 s | 2 x | ≥ 3 x | **missed** |",
    ]


def test_a_day_is_one_start_and_the_rest_in_proportion(monkeypatch, tmp_path):
    monkeypatch.setattr(command_rows, "take_turns", lambda ways, n: {"short": [5.0], "long": [6.0]})
    row = command_rows.continuous_row(SMALL, tmp_path)
    day_s = 5 + (6 - 5) / (120 - 60) * (86400 - 60)
    assert row.here == f"{day_s / 60:.2g} min" and "scaled from 2 minutes" in row.what
    assert row.result == f"{86400 / day_s:.0f} x real time" and row.reached is False
