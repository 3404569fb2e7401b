"""predict.py killed, resumed, and started by several processes."""

import os
import shutil
import signal
import time

import pytest
import torch

from tests.conftest import ROOT
from tests.killed_commands import members, start_as_from_a_terminal, wait_for_the_end
from tests.prediction.conftest import TRIGGER, predict
from utils.files import lock_of


def killed(ckpt, n_writes, *arguments, cwd):
    """Run the command in an interpreter that is killed during write number ``n_writes``."""
    shim = cwd / f"shim{n_writes}"
    shim.mkdir(exist_ok=True)
    (shim / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "if sys.argv[0].endswith('predict.py'):\n"
        "    from prediction import tables\n"
        f"    left = [{n_writes}]\n"
        "    def write(self, rows, whole=tables.Table.write):\n"
        "        left[0] -= 1\n"
        "        if left[0]: return whole(self, rows)\n"
        "        text = tables._lines(rows, self.columns, self.form)\n"
        "        with open(self.path, 'a') as file: file.write(text[: 2 * len(text) // 3])\n"
        "        os.kill(os.getpid(), 9)\n"
        "    tables.Table.write = write\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        predict(ckpt, *arguments, cwd=cwd, status=-9)


@pytest.mark.parametrize("n_writes", [1, 4])
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(place, ckpt, events, n_writes):
    files = [events, "--per-sensor"]
    if not (place / "whole.csv").exists():
        predict(ckpt, *files, "--out", "whole.csv", cwd=place)
    out = f"killed{n_writes}.csv"
    killed(ckpt, n_writes, *files, "--out", out, cwd=place)
    output = predict(ckpt, *files, "--out", out, cwd=place, status=2)
    assert f"{out}: exists; choose another name, remove it, or go on with it by --resume" in output
    predict(ckpt, *files, "--out", out, "--resume", cwd=place)
    for name in ("", "_sensors"):
        assert (place / f"killed{n_writes}{name}.csv").read_bytes() == (
            place / f"whole{name}.csv"
        ).read_bytes()


@pytest.mark.parametrize("n_writes", [5])
def test_a_killed_watch_goes_on(place, ckpt, day, n_writes):
    arguments = ["--continuous", day[0], *TRIGGER, "chunk_s=130"]
    if not (place / "watch.csv").exists():
        predict(ckpt, *arguments, "--out", "watch.csv", cwd=place)
    killed(ckpt, n_writes, *arguments, "--out", f"watch{n_writes}.csv", cwd=place)
    predict(ckpt, *arguments, "--out", f"watch{n_writes}.csv", "--resume", cwd=place)
    assert (place / f"watch{n_writes}.csv").read_bytes() == (place / "watch.csv").read_bytes()


def test_several_processes_are_refused(place, ckpt, events, monkeypatch):
    """As torchrun starts them."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    output = predict(ckpt, events, "--out", "several.csv", cwd=place, status=2)
    assert output.startswith("error: found 2 processes") and output.count("\n") == 1
    assert "each with its own --out" in output and "SLURM job array" in output
    assert not list(place.glob("*several*"))
    monkeypatch.setenv("WORLD_SIZE", "1")
    predict(ckpt, events / "low", "--out", "single.csv", cwd=place)


def test_a_table_has_one_writer_one_model_and_one_configuration(place, ckpt, events):
    predict(ckpt, events / "low", "--out", "mine.csv", cwd=place)
    output = predict(
        ckpt, events / "low", "--out", "mine.csv", "--resume", "error_rate=0.2", cwd=place, status=2
    )
    assert "was begun with another configuration" in output
    output = predict(
        ckpt, events / "low", "--out", "mine.csv", "--resume", "--per-sensor", cwd=place, status=2
    )
    assert "was begun without --per-sensor" in output
    lock = lock_of(place / ".mine.csv.lock")
    lock.acquire()
    output = predict(ckpt, events / "low", "--out", "mine.csv", "--resume", cwd=place, status=2)
    lock.release()
    assert "mine.csv: another process is writing it" in output
    output = predict(ckpt, "--export", "m.onnx", "ensemble=usable", cwd=place, status=2)
    assert "--export writes the ensemble of all sensors" in output


def test_another_model_does_not_go_on_with_a_table(place, ckpt, events):
    predict(ckpt, events / "high", "--out", "first.csv", cwd=place)
    other = place / "other.ckpt"
    content = torch.load(ckpt, weights_only=True)
    torch.save(content | {"global_step": 0}, other)
    output = predict(other, events / "high", "--out", "first.csv", "--resume", cwd=place, status=2)
    assert "was begun with another model" in output
    shutil.copy(place / "first.csv", place / "second.csv")
    predict(
        ckpt, events / "high", "--out", "second.csv", "--resume", cwd=place
    )  # nothing left to do
    assert (place / "second.csv").read_bytes() == (place / "first.csv").read_bytes()


@pytest.fixture(scope="module")
def many(place, events):
    """A folder of 4000 events."""
    folder = place / "many"
    folder.mkdir()
    content = next((events / "low").iterdir()).read_bytes()
    for number in range(4000):
        (folder / f"{number}.mseed").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("number", "to_all", "when"),
    [
        pytest.param(signal.SIGTERM, False, "classifying", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, True, "starting readers", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, "starting readers", marks=pytest.mark.slow),
        (signal.SIGINT, True, "classifying"),
    ],
)
def test_a_stop_signal_ends_prediction_and_its_readers(place, ckpt, many, number, to_all, when):
    """Ctrl-C and schedulers signal all processes of a command: one message.

    That also holds for processes that have just started.
    """
    out = place / f"many{number}{to_all}{when[0]}.csv"
    command = [
        str(ROOT / "predict.py"),
        "--config_predict",
        str(ROOT / "configs" / "predict.yaml"),
        "--ckpt",
        str(ckpt),
        str(many),
        "--out",
        out.name,
        "precision=32-true",
    ]
    with start_as_from_a_terminal(command, place) as running:
        deadline = time.monotonic() + 600
        # the command, what watches over shared resources, and a reader
        while len(members(running.pid)) < 3 or (
            when == "classifying" and len(out.read_text().splitlines()) <= 20
        ):
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.02)
        (os.killpg if to_all else os.kill)(running.pid, number)
        _, message = running.communicate(timeout=600)
    status, word = {signal.SIGTERM: (143, "terminated"), signal.SIGINT: (130, "interrupted")}[
        number
    ]
    assert (
        running.returncode == status
        and message.count(f"{word}: go on by the same command with --resume") == 1
    )
    assert "Traceback" not in message, message[-3000:]
    wait_for_the_end(running.pid)
