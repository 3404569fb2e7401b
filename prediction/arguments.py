"""The command line of predict.py: its flags, and a check that it was started as one process.

Does not import PyTorch, so that ``--help`` and error messages come at once.
"""

import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from prediction.events import event_key
from utils.errors import UserError

CONFIG = Path("configs", "predict.yaml")


@dataclass(frozen=True)
class Outputs:
    """Files to write: the table of events ``out``, in ``format`` csv or json, and optional ones.

    Raises ``UserError`` for paths that cannot be written, before anything is computed.
    """

    out: Path
    format: str = "csv"
    per_sensor: bool = False
    quakeml: Path | None = None
    scml: Path | None = None
    plots: Path | None = None
    annotate: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.plots is not None and self.plots.exists() and not self.plots.is_dir():
            raise UserError(f"--plots: {self.plots} is a file; give a folder")
        for path in (self.out, self.quakeml, self.scml, self.annotate):
            if path is not None and path.is_dir():
                raise UserError(f"{path}: is a folder; give the name of a file")
        if self.out.exists() and not self.resume:
            raise UserError(
                f"{self.out}: exists; choose another name, remove it, or go on with it by --resume"
            )

    @property
    def sensors(self) -> Path:
        """Path of the table with one row per sensor."""
        return self.out.with_name(f"{self.out.stem}_sensors{self.out.suffix}")

    def holds(self, file: Path) -> bool:
        """Tell whether a file is an output of this run or of an interrupted one."""
        place = file.resolve()
        drawn = self.plots is not None and self.plots.resolve() == place.parent
        written = (self.out, self.sensors, self.quakeml, self.scml, self.annotate)
        return (drawn and place.suffix == ".png") or place in [
            path.resolve() for path in written if path is not None
        ]


def parse(description: str | None) -> Namespace:
    """Read the command line of predict.py: flags, ``overrides``, ``files`` and ``outputs``.

    An argument with = that is no file overrides a configuration key. Raises ``UserError`` for
    paths that are not there or cannot be written: the model is loaded later, which takes seconds.
    """
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    _add_inputs(parser)
    _add_archive(parser)
    _add_outputs(parser)
    # recordings may come before, between and after flags
    arguments = parser.parse_intermixed_args()
    arguments.overrides = [
        text for text in arguments.recordings if "=" in text and not Path(text).exists()
    ]
    arguments.recordings = [
        text for text in arguments.recordings if text not in arguments.overrides
    ]
    if problem := _problem(arguments):
        parser.error(problem)
    if not (arguments.describe or arguments.export):
        names = [field.name for field in fields(Outputs)]
        arguments.resume |= arguments.follow  # a follower goes on with what is there
        arguments.outputs = Outputs(**{name: getattr(arguments, name) for name in names})
        if arguments.sds is None:
            arguments.files = list_files(arguments.recordings, arguments.outputs)
        elif not arguments.sds.is_dir():
            raise UserError(f"--sds: {arguments.sds}: no such folder")
    return arguments


def _add_inputs(parser: ArgumentParser) -> None:
    """Add the recordings, the model, and what to do with them."""
    parser.add_argument(
        "recordings",
        nargs="*",
        metavar="RECORDINGS",
        help="files and folders, in any format ObsPy reads; key.path=value",
    )
    parser.add_argument(
        "--ckpt",
        required=True,
        metavar="FILE",
        help="checkpoints/last.ckpt of a trained classifier, or demo",
    )
    parser.add_argument(
        "--describe", action="store_true", help="only say what the model knows, and stop"
    )
    parser.add_argument(
        "--continuous", action="store_true", help="find the events in continuous recordings first"
    )
    parser.add_argument(
        "--config_predict",
        default=_default_config(),
        metavar="FILE",
        help="YAML file (default: %(default)s)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first file that cannot be used"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted table")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="only count the events for a grid of triggers, into --out and a picture beside it",
    )
    parser.add_argument(
        "--known-times",
        type=Path,
        metavar="FILE.csv",
        help="with --tune: times of events (column time, UTC), to count how many are found",
    )


def _problem(arguments: Namespace) -> str:
    """Return what is missing or does not go together, or an empty string."""
    if arguments.describe or arguments.export is not None:
        return ""
    archive = arguments.sds is not None
    if arguments.out is None or bool(arguments.recordings) == archive:
        return (
            "recordings and --out FILE are needed (or --sds ROOT and --out FILE, "
            "or --export FILE.onnx, or --describe)"
        )
    if archive != (arguments.streams is not None):
        return '--sds ROOT and --streams "NET.STA.LOC.CHA" go together'
    of_archive = {
        "--from": arguments.start,
        "--to": arguments.end,
        "--follow": arguments.follow,
    }
    alone = [flag for flag, value in of_archive.items() if value and not archive]
    if alone:
        return f"{alone[0]} goes with --sds"
    if arguments.tune and (arguments.follow or not (archive or arguments.continuous)):
        return "--tune goes with --continuous or --sds, without --follow"
    if arguments.tune and arguments.format != "csv":
        return "--tune writes a CSV table: leave out --format"
    not_with_tune = ("quakeml", "scml", "per_sensor", "plots", "annotate", "resume", "strict")
    without_effect = [flag for flag in not_with_tune if arguments.tune and getattr(arguments, flag)]
    if without_effect:
        return f"--tune writes --out only: leave out --{without_effect[0].replace('_', '-')}"
    if arguments.strict and arguments.follow:
        return "--strict goes without --follow, which goes on after damaged files"
    if arguments.known_times is not None and not arguments.tune:
        return "--known-times goes with --tune"
    if arguments.on_event is not None and not arguments.follow:
        return "--on-event goes with --follow"
    if arguments.annotate is not None and (
        arguments.follow or not (archive or arguments.continuous)
    ):
        return "--annotate goes with --continuous or --sds, without --follow"
    return ""


def _default_config() -> str:
    """Return the file of this folder, or the shipped one: people classify in any folder."""
    return str(CONFIG if CONFIG.exists() else Path(__file__).resolve().parent.parent / CONFIG)


def _add_archive(parser: ArgumentParser) -> None:
    """Add the flags of an SDS archive."""
    parser.add_argument(
        "--sds", type=Path, metavar="ROOT", help="read an SDS archive (SeisComP, slarchive)"
    )
    parser.add_argument(
        "--streams",
        metavar="PATTERNS",
        help='its channels, for example "NO.AKN0?..GH?"; several separated by commas',
    )
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help="begin here (UTC), 2024-05-01T06:00:00"
    )
    parser.add_argument("--to", dest="end", metavar="TIME", help="end here (UTC)")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on as data arrive; an existing table is continued",
    )
    parser.add_argument(
        "--on-event",
        metavar="COMMAND",
        help="run this for each new event, with the event as JSON on standard input",
    )


def _add_outputs(parser: ArgumentParser) -> None:
    """Add the flags that say what to write."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="table of events, one row each")
    parser.add_argument(
        "--format",
        choices=("csv", "json"),
        default="csv",
        help="of the tables; json has one object a line",
    )
    parser.add_argument(
        "--per-sensor",
        action="store_true",
        help="also a table of what each channel says, OUT_sensors",
    )
    parser.add_argument("--quakeml", type=Path, metavar="FILE", help="also the events as QuakeML")
    parser.add_argument(
        "--scml", type=Path, metavar="FILE", help="also the events as SeisComP's XML"
    )
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        help="also a picture of each event, and of continuous data a timeline",
    )
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="FILE.mseed",
        help="also class probabilities over time, one trace per class (--continuous, --sds)",
    )
    parser.add_argument(
        "--export", type=Path, metavar="FILE.onnx", help="write the model as one ONNX graph instead"
    )


def require_one_process() -> None:
    """Raise ``UserError`` if several processes were started: they would write one table."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"found {os.environ['WORLD_SIZE']} processes started together (WORLD_SIZE), but one "
            "process writes a table. Start python predict.py once for each part of the recordings, "
            "each with its own --out, for example by a SLURM job array (docs/prediction.md)"
        )


def list_files(paths: Sequence[str], outputs: Outputs) -> list[Path]:
    """List the given files and the files in given folders, in order, each once.

    Hidden files and ``outputs`` are left out. Raises ``UserError`` for missing paths, and if there
    are no files.
    """
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.is_file())
            found = [
                file
                for file in inside
                if not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
        elif path.is_file():
            found = [path]
        else:
            raise UserError(f"{path}: no such file or folder")
        for file in found:
            if not outputs.holds(file):
                files.setdefault(event_key(file), file)
    if not files:
        raise UserError(f"{', '.join(paths)}: no recordings found")
    return list(files.values())
