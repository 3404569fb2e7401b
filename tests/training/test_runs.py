import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from training.runs import Run
from utils.config import load_config
from utils.errors import UserError
from utils.files import atomic
from utils.schema import FinetuneConfig


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("run_name: one\n")
    return lambda *overrides: load_config(tmp_path / "c.yaml", FinetuneConfig, overrides)


def test_a_half_written_file_never_bears_the_name(tmp_path):
    path = tmp_path / "a" / "f.txt"
    with atomic(path) as partial:
        partial.write_text("first")
    for error, kind in ((OSError("disk full"), UserError), (KeyError("a bug"), KeyError)):
        with pytest.raises(kind) as raised, atomic(path) as partial:
            partial.write_text("sec")
            raise error
        assert kind is KeyError or "a/f.txt: cannot be written: disk full" in str(raised.value)
    assert path.read_text() == "first" and [p.name for p in path.parent.iterdir()] == ["f.txt"]


def test_folder_holds_the_resolved_config_and_is_not_reused(config):
    run = Run(config())
    assert not run.dir.exists()
    run.start()
    resolved = load_config(run.dir / "config.yaml", FinetuneConfig)
    assert resolved == config()
    with pytest.raises(
        UserError,
        match=r"runs/finetune/one exists: choose another run_name, or resume it by --resume",
    ):
        Run(config())


def test_date_time_names_do_not_collide(config, monkeypatch):
    monkeypatch.setattr("os.environ", dict(os.environ))
    first = Run(config("run_name=null"))
    first.start()
    os.environ["LOCAL_RANK"] = "1"  # a further process of the same run takes the same folder
    assert Run(config("run_name=null")).dir == first.dir
    del os.environ["LOCAL_RANK"], os.environ["AKNES_SSL_RUN_NAME"]
    second = Run(config("run_name=null"))
    assert first.dir != second.dir and first.dir.parent == second.dir.parent


def test_resume_wants_the_same_configuration(config, tmp_path):
    run = Run(config())
    run.start()
    assert (
        Run(config("dataset.num_workers=1", "trainer_params.gpus=[]"), resume=run.dir).dir
        == run.dir
    )
    with pytest.raises(UserError, match=r"dataset.batch_size: was 64, now 32"):
        Run(config("dataset.batch_size=32"), resume=run.dir)
    with pytest.raises(UserError, match="not a run folder"):
        Run(config(), resume=tmp_path)


def test_mistakes_and_interrupts_end_without_traceback():
    script = (
        "from utils.cli import main\n"
        "from utils.errors import Interrupted, UserError\n"
        "def f(): raise {}\n"
        "main(f)"
    )
    from_worker = (
        "Caught UserError in DataLoader worker process 0.\n"
        "Original Traceback (most):\n  f()\nutils.errors.UserError: wrong key\n"
    )
    for error, status, message in (
        ("UserError('wrong key')", 2, "error: wrong key\n"),
        (f"UserError({from_worker!r})", 2, "error: wrong key\n"),
        ("KeyboardInterrupt", 130, "interrupted\n"),
        ("Interrupted('terminated: go on', 143)", 143, "terminated: go on\n"),
        (
            "OSError(28, 'No space left on device', 'a/b')",
            2,
            "error: a/b: No space left on device\n",
        ),
        ("OSError(28, 'No space left on device')", 2, "error: writing: No space left on device\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script.format(error)], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (status, message)


def test_a_run_from_before_a_key_was_there_goes_on_if_the_key_has_its_default(config):
    run = Run(config())
    run.start()
    path = run.dir / "config.yaml"
    path.write_text(
        "".join(
            line
            for line in path.read_text().splitlines(keepends=True)
            if "calibration_ratio" not in line
        )
    )
    Run(config(), resume=run.dir)
    with pytest.raises(UserError, match=r"dataset.calibration_ratio: was 0.0, now 0.2"):
        Run(config("dataset.calibration_ratio=0.2"), resume=run.dir)


def test_two_processes_do_not_work_in_one_folder(config, tmp_path):
    first = Run(config())
    first.start()
    with pytest.raises(UserError, match=r"runs/finetune/one: another process uses this run folder"):
        Run(config(), resume=first.dir).start()
    del first
    Run(config(), resume=tmp_path / "runs/finetune/one").start()


def test_processes_started_from_outside_need_a_name(config, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AKNES_SSL_RUN_NAME", raising=False)
    with pytest.raises(UserError, match="need a common run_name"):
        Run(config("run_name=null"))
    assert Run(config()).dir.name == "one"


def test_an_unwritable_place_is_named(config, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"runs/finetune/one: cannot be written: Not a directory"):
        Run(config()).start()
    with (
        pytest.raises(UserError, match=r"runs/x.txt: cannot be written"),
        atomic(tmp_path / "runs" / "x.txt") as partial,
    ):
        partial.write_text("x")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"- 1", b"a: [1", b"\0\0", b"seed: !!python/name:os.system"]
)
def test_a_run_folder_with_a_damaged_configuration_is_refused(config, content):
    run = Run(config())
    run.start()
    (run.dir / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match="runs/finetune/one: not a run folder .config.yaml"):
        Run(config(), resume=run.dir)


def test_a_run_that_another_process_has_finished_meanwhile_is_not_overwritten(config):
    first, second = Run(config()), Run(config())
    first.start()
    del first
    with pytest.raises(UserError, match=r"runs/finetune/one exists"):
        second.start()
