"""A training run and its folder ``runs/<kind>/<name>/``: config, checkpoints, plots, summary."""

import itertools
import json
import logging
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout

from training.devices import is_first_process, is_one_of_several
from utils.checkpoints import load_resumable
from utils.config import YamlError, read_yaml, removed_keys
from utils.errors import UserError
from utils.files import atomic, lock_of
from utils.schema import RunConfig

log = logging.getLogger(__name__)
RUNS_DIR = Path("runs")  # in the working directory
CONFIG = "config.yaml"  # written first: a run with this file has begun
METRICS = "metrics.csv"  # one row per epoch
PREDICTIONS = "predictions.npz"
SUMMARY = "summary.json"  # written last: a run with this file is finished
LOCK = ".lock"
LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
RUN_NAME_VARIABLE = "AKNES_SSL_RUN_NAME"  # gives further processes the name chosen by the first
PACKAGES = ("torch", "pytorch-lightning", "numpy", "scipy", "h5py")
# keys that may differ when a run is resumed
FREE_KEYS = {"run_name", "logger", "trainer_params.gpus", "dataset.num_workers", "dataset.preload"}


class Run:
    """One training run: paths of its files, lock, summary; ``start`` creates the folder.

    ``resume`` is the folder of an interrupted run to continue. Raises ``UserError`` if the run name
    exists, the configuration has changed since the run began, the checkpoint is damaged, or several
    processes have no common run name.
    """

    def __init__(self, config: RunConfig, resume: str | Path | None = None):
        self.config = config
        self.resumed = resume is not None
        self.started = time.monotonic()
        parent = RUNS_DIR / config.kind
        name = config.run_name or os.environ.get(RUN_NAME_VARIABLE)
        if name is None and not resume and is_one_of_several():
            raise UserError(
                "several processes (torchrun, SLURM) need a common run_name: add run_name=NAME"
            )
        if name is None:
            name = os.environ[RUN_NAME_VARIABLE] = _unused_date_time(parent)
        self.dir = Path(resume) if resume else parent / name
        self.plots = self.dir / "plots"
        self.resume_from: Path | None = None  # the checkpoint to go on from
        self.checkpoint: dict[str, Any] | None = (
            None  # its content, until Lightning has restored it
        )
        if resume:
            require_same_config(self.dir, config)
            path = self.dir / LAST_CHECKPOINT
            if path.is_file():  # read now: packing events takes long
                self.resume_from, self.checkpoint = path, load_resumable(path)
        elif is_first_process():
            self._require_new()

    def _require_new(self) -> None:
        if (self.dir / CONFIG).is_file():
            raise UserError(
                f"{self.dir} exists: choose another run_name, or resume it by --resume {self.dir}"
            )

    def start(self) -> None:
        """Create the folder with config.yaml, and lock it until this process ends.

        Only the first of several processes does so. Raises ``UserError`` if another process uses
        the folder, or if it cannot be written.
        """
        if not is_first_process():
            return
        try:
            self.plots.mkdir(parents=True, exist_ok=True)
            self._lock = lock_of(self.dir / LOCK)
            self._lock.acquire(blocking=False)
        except Timeout:  # an OSError, too
            raise UserError(
                f"{self.dir}: another process uses this run folder; wait for it or stop it"
            ) from None
        except OSError as error:
            raise UserError(f"{self.dir}: cannot be written: {error.strerror}") from error
        if not self.resumed:
            self._require_new()  # another process may have begun and finished it meanwhile
            text = yaml.safe_dump(self.plain_config, sort_keys=False, allow_unicode=True)
            with atomic(self.dir / CONFIG) as partial:
                partial.write_text(text, encoding="utf-8")
        log.info("Run folder: %s", self.dir)

    @property
    def plain_config(self) -> dict[str, Any]:
        """The complete configuration as dicts and lists."""
        return self.config.model_dump(mode="json")

    def write_summary(self, data: Any, metrics: dict[str, Any], **facts: Any) -> Path:
        """Write summary.json: data, metrics, versions and further ``facts``; return its path."""
        content = {
            "kind": self.config.kind,
            "run": self.dir.name,
            "seed": self.config.seed,
            "metrics": metrics,
            **facts,
            "data": {
                "archive": str(data.archive.archive_dir),
                "fingerprint": data.archive.fingerprint,
                "n_events": len(data.archive),
                "n_train": len(data.train_events),
                "n_test": len(data.test_events),
                "class_names": list(data.class_names),
            },
            "duration_s": round(time.monotonic() - self.started, 1),
            "versions": package_versions(),
        }
        path = self.dir / SUMMARY
        with atomic(path) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return path


def package_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _unused_date_time(parent: Path) -> str:
    """Return the date and time as a folder name that does not exist in ``parent``."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = (stamp + (f"_{number}" if number else "") for number in itertools.count())
    return next(name for name in names if not (parent / name).exists())


def require_same_config(
    folder: Path, config: RunConfig, hint: str = "start a new run, or undo"
) -> None:
    """Raise ``UserError`` with the keys in which a run's config.yaml differs from ``config``.

    ``hint`` says in the message what to do.
    """
    try:
        before = read_yaml(folder / CONFIG)
    except (OSError, YamlError) as error:
        raise UserError(f"{folder}: not a run folder ({CONFIG}: {error})") from error
    if not isinstance(before, dict):
        raise UserError(
            f"{folder}: not a run folder ({CONFIG} should hold keys and values); start a new run"
        )
    new = _flat(config.model_dump(mode="json"))
    defaults = _flat(type(config)().model_dump(mode="json"))  # for keys that are newer than the run
    old = {key: value for key, value in defaults.items() if key in new} | _flat(before)
    without_effect = {
        name for name, key in removed_keys(type(config)).items() if old.get(name) == key.unused
    }
    changed = [
        key
        for key in (old.keys() | new.keys()) - FREE_KEYS - without_effect
        if old.get(key) != new.get(key)
    ]
    if changed:
        listing = "\n  ".join(
            f"{key}: was {old.get(key)!r}, now {new.get(key)!r}" for key in sorted(changed)
        )
        raise UserError(f"{folder}: the configuration has changed since; {hint}\n  {listing}")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
