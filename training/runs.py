"""A run and its folder: ``runs/<kind>/<name>/`` with config, metrics, checkpoints, plots and summary."""

import itertools
import json
import logging
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from utils.checkpoints import require_resumable
from utils.config import YamlError, read_yaml
from utils.errors import UserError
from utils.files import LockHeld, take_lock, write_atomically
from utils.schema import RunConfig

log = logging.getLogger(__name__)
RUNS_DIR = Path("runs")  # of the folder the command is started in
CONFIG, PREDICTIONS, SUMMARY = (
    "config.yaml",
    "predictions.npz",
    "summary.json",
)  # a run has begun when the first is there
LOCK = ".lock"
LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "scipy", "h5py")
# what may change between the parts of a resumed run without changing what is computed
FREE_KEYS = {"run_name", "logger", "trainer_params.gpus", "dataset.num_workers", "dataset.preload"}


class Run:
    """Name the files of one run; ``start`` creates its folder. With ``resume`` it goes on in an existing one.

    Raises ``UserError`` for a run name that is taken, a configuration that has changed since the run began, a damaged
    checkpoint, and several processes without a common run name.
    """

    def __init__(self, config: RunConfig, resume: str | Path | None = None):
        self.config = config
        self.resumed = resume is not None
        self.started = time.monotonic()
        parent = RUNS_DIR / config.kind
        if config.run_name is None and not resume and _started_from_outside():
            raise UserError(
                "several processes (torchrun, SLURM) need a common run_name: add run_name=NAME"
            )
        # the environment tells the processes that Lightning starts for further devices which name the first has chosen
        name = config.run_name or os.environ.setdefault(
            "AKNES_SSL_RUN_NAME", _unused_date_time(parent)
        )
        self.dir = Path(resume) if resume else parent / name
        self.plots = self.dir / "plots"
        if resume:
            require_same_config(self.dir, config)
            if self.resume_from:  # before the data: a damaged file should not cost a packing
                require_resumable(self.resume_from)
        elif _is_first_process() and (self.dir / CONFIG).is_file():
            raise UserError(
                f"{self.dir} exists: choose another run_name, or go on with it by --resume {self.dir}"
            )

    def start(self) -> None:
        """Create the folder with the resolved config.yaml, in the first of several processes, and lock it while this one lives.

        Raises ``UserError`` if another process is at work in it, and if it cannot be written.
        """
        if not _is_first_process():
            return
        try:
            self.plots.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(self.dir / LOCK, wait=False)
        except OSError as error:
            raise UserError(f"{self.dir}: cannot be written: {error.strerror}") from error
        except LockHeld:
            raise UserError(
                f"{self.dir}: another process is at work in it; wait for it or stop it"
            ) from None
        if not self.resumed:
            text = yaml.safe_dump(self.plain_config, sort_keys=False, allow_unicode=True)
            write_atomically(
                self.dir / CONFIG, lambda path: path.write_text(text, encoding="utf-8")
            )
        log.info("Run folder: %s", self.dir)

    @property
    def plain_config(self) -> dict:
        """Return the resolved configuration as plain dicts and lists."""
        return self.config.model_dump(mode="json")

    @property
    def resume_from(self) -> Path | None:
        """Return the checkpoint to go on from, if there is one."""
        path = self.dir / LAST_CHECKPOINT
        return path if path.is_file() else None

    def write_summary(self, data, metrics: dict, **facts) -> Path:
        """Write summary.json: what was computed, on which data, with which versions, how well, and further ``facts``."""
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
            "versions": {"python": platform.python_version()}
            | {name: _version(name) for name in PACKAGES},
        }
        path = self.dir / SUMMARY
        write_atomically(
            path,
            lambda partial: partial.write_text(json.dumps(content, indent=1), encoding="utf-8"),
        )
        return path


def _is_first_process() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _started_from_outside() -> bool:
    """Tell whether torchrun or SLURM has started several processes, each of which reads the configuration for itself."""
    several = any(int(os.environ.get(name, "1")) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return (
        several
        and "AKNES_SSL_RUN_NAME" not in os.environ
        and any(name in os.environ for name in ("RANK", "SLURM_PROCID"))
    )


def _unused_date_time(parent: Path) -> str:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = (stamp + (f"_{number}" if number else "") for number in itertools.count())
    return next(name for name in names if not (parent / name).exists())


def require_same_config(
    folder: Path, config: RunConfig, way_on: str = "start a new run, or undo"
) -> None:
    """Raise ``UserError`` that lists the keys in which a run's config.yaml differs from ``config``."""
    try:
        before = read_yaml(folder / CONFIG)
    except (OSError, YamlError) as error:
        raise UserError(f"{folder}: not a run folder ({CONFIG}: {error})") from error
    if not isinstance(before, dict):
        raise UserError(
            f"{folder}: not a run folder ({CONFIG} should hold keys and values); start a new run"
        )
    new = _flat(config.model_dump(mode="json"))
    defaults = _flat(type(config)().model_dump(mode="json"))  # of keys that are newer than the run
    old = {key: value for key, value in defaults.items() if key in new} | _flat(before)
    changed = [
        key
        for key in old.keys() | new.keys()
        if old.get(key) != new.get(key) and key not in FREE_KEYS
    ]
    if changed:
        listing = "\n  ".join(
            f"{key}: was {old.get(key)!r}, now {new.get(key)!r}" for key in sorted(changed)
        )
        raise UserError(f"{folder}: the configuration has changed since; {way_on}\n  {listing}")


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
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
