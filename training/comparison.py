"""Compare the cells of a grid: tables, paired differences with bootstrap intervals, plot."""

import csv
import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from training.comparison_plots import SHOWN, plot_comparison
from training.grid import Budget, Cell
from training.grid_config import Method
from training.runs import PREDICTIONS, SUMMARY
from utils.errors import UserError
from utils.files import write_atomically

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "expected_calibration_error")
N_BOOTSTRAP = 4000
N_SENSOR_DRAWS = 40
# paired differences: the first (method, prediction) minus the second
PAIRS = (
    (("scratch", "ensemble"), ("scratch", "single_channel")),
    (("finetuned", "ensemble"), ("finetuned", "single_channel")),
    (("finetuned", "ensemble"), ("scratch", "ensemble")),
    (("finetuned", "single_channel"), ("scratch", "single_channel")),
    (("linear", "ensemble"), ("scratch", "ensemble")),
    (("logistic", "ensemble"), ("linear", "ensemble")),
    (("logistic", "ensemble"), ("random", "ensemble")),
    (("scratch", "ensemble"), ("original", "stacked_trace")),
    (("finetuned", "ensemble"), ("original", "stacked_trace")),
    (("scratch", "ensemble"), ("features", "ensemble")),
)


class Result(NamedTuple):
    """Results of one cell: metrics by kind of prediction, correct answers and outputs by event."""

    cell: Cell
    n_train: int
    n_test: int
    metrics: dict[str, dict]
    right: dict[str, np.ndarray]  # (N,) by kind of prediction: share of correct channels, or 0, 1
    log_probs: np.ndarray  # (N, S, K), NaN where a sensor does not exist
    labels: np.ndarray  # (N,)


def read_result(cell: Cell) -> Result:
    """Read the results of a finished cell; raises ``UserError`` for damaged files."""
    try:
        summary = json.loads((cell.folder / SUMMARY).read_text(encoding="utf-8"))
        metrics, n_train = summary["metrics"], summary["data"]["n_train"]
        with np.load(cell.folder / PREDICTIONS, allow_pickle=False) as file:
            logits, mask, labels = file["logits"], file["mask"], file["labels"]
        _require_shapes(logits, mask, labels)
        single = metrics.get("single_channel")
        if single is not None and "recall_standard_error" not in single:
            metrics["single_channel"] = _evaluate_per_event(logits, mask, labels)
        _balance_over_learned_classes(metrics, summary.get("learned_classes"))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        MemoryError,
        RecursionError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{cell.folder}: {SUMMARY} or {PREDICTIONS} is damaged ({error}); "
            "delete the folder and start again"
        ) from error
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log_probs[~mask] = np.nan
    single = np.where(mask, log_probs.argmax(-1) == labels[:, None], np.nan)
    right = {
        "single_channel": np.nanmean(single, 1),
        "ensemble": np.nanmean(log_probs, 1).argmax(-1) == labels,
    }
    right["stacked_trace"] = right["ensemble"]
    return Result(cell, n_train, len(labels), metrics, right, log_probs, labels)


def _evaluate_per_event(logits: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> dict:
    """Evaluate the channels again: earlier versions gave each the same weight, not each event."""
    import torch

    from models.evaluation import evaluate

    event, _ = np.nonzero(mask)
    log_probs = torch.from_numpy(logits[mask]).log_softmax(-1)
    return evaluate(log_probs, torch.from_numpy(labels[event]), torch.from_numpy(event))


def _balance_over_learned_classes(metrics: dict[str, dict], learned: list[bool] | None) -> None:
    """Let balanced accuracies be means over the classes that could be learned, if they are known.

    A class without weight is never predicted: Noise at Åknes, with 8 events.
    """
    if learned is None:
        return
    for values in metrics.values():
        recalls = [r for r, known in zip(values["recall"], learned) if known and r is not None]
        values["balanced_accuracy"] = float(np.mean(recalls))
        values["recall"] = [r if known else None for r, known in zip(values["recall"], learned)]


def _require_shapes(logits: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> None:
    """Raise ``ValueError`` unless these are logits (N, S, K), mask (N, S) and labels (N,)."""
    if (
        logits.ndim != 3
        or logits.dtype.kind != "f"
        or mask.dtype != bool
        or labels.dtype.kind != "i"
    ):
        raise ValueError("wrong types or numbers of dimensions")
    if (
        mask.shape != logits.shape[:2]
        or labels.shape != logits.shape[:1]
        or not mask.any(axis=1).all()
    ):
        raise ValueError("shapes of arrays do not agree")


def write_comparison(results: Sequence[Result], folder: Path, command: str) -> str:
    """Write results.csv, results.md and comparison.png; return the Markdown."""
    _write_csv(results, folder / "results.csv")
    groups = _grouped(results)
    curves = {
        group: np.mean([accuracy_over_sensors(r) for r in chosen], axis=0)
        for group, chosen in groups.items()
        if np.isfinite(chosen[0].log_probs[..., 0]).sum(1).max() > 1
    }
    n_train = {
        budget: int(np.mean([r.n_train for r in chosen])) for (_, budget), chosen in groups.items()
    }
    guesses = {"largest class": _share_of_largest_class(results), "chance": _chance(results)}
    plot_comparison(
        _spread(results), _meaning(results), curves, n_train, guesses, folder / "comparison.png"
    )
    text = "\n".join(
        [f"Command: `{command}`", "", *_table(results), "", *_differences(results), ""]
    )
    write_atomically(folder / "results.md", lambda path: path.write_text(text, encoding="utf-8"))
    return text


def _grouped(results: Iterable[Result]) -> dict[tuple[str, Budget], list[Result]]:
    """Return the results by (method, budget), those with the fewest labels first."""
    groups: dict[tuple[str, Budget], list[Result]] = {}
    for result in results:
        assert result.cell.budget is not None
        groups.setdefault((result.cell.method, result.cell.budget), []).append(result)
    return dict(sorted(groups.items(), key=lambda item: item[1][0].n_train))


def _share_of_largest_class(results: Sequence[Result]) -> float:
    return float(np.mean([np.bincount(r.labels).max() / len(r.labels) for r in results]))


def _chance(results: Sequence[Result]) -> float:
    """Return the accuracy of guessing among the classes of the test events."""
    return float(np.mean([1 / len(np.unique(r.labels)) for r in results]))


def _write_csv(results: Sequence[Result], path: Path) -> None:
    def write(partial: Path) -> None:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(
                [
                    "method",
                    "label_fraction",
                    "events_per_class",
                    "seed",
                    "label_draw",
                    "prediction",
                    "n_train",
                    "n_test",
                    *METRICS,
                    "run",
                ]
            )
            for r in results:
                for prediction, values in r.metrics.items():
                    cell, numbers = r.cell, [values[name] for name in METRICS]
                    assert cell.budget is not None
                    budget = [cell.budget.fraction or None, cell.budget.per_class or None]
                    start = [cell.method, *budget, cell.seed, cell.draw, prediction]
                    table.writerow([*start, r.n_train, r.n_test, *numbers, cell.folder])

    write_atomically(path, write)


def _spread(
    results: Sequence[Result],
) -> dict[tuple[str, Budget, str], dict[str, tuple[float, float]]]:
    """Return (mean, spread) of each metric by (method, budget, prediction).

    The spread is the standard deviation over seeds and draws; for one, the standard error over
    events.
    """
    spread = {}
    for (method, budget), chosen in _grouped(results).items():
        for prediction in (kind for kind in SHOWN if kind in chosen[0].metrics):
            spread[method, budget, prediction] = {
                name: _mean_and_spread([r.metrics[prediction] for r in chosen], name)
                for name in ("accuracy", "balanced_accuracy")
            }
    return spread


def _mean_and_spread(metrics: list[dict], name: str) -> tuple[float, float]:
    values = [values[name] for values in metrics]
    if len(values) > 1:
        return float(np.mean(values)), float(np.std(values, ddof=1))
    if name == "accuracy":
        return values[0], metrics[0]["accuracy_standard_error"]
    return values[0], _balanced_error(metrics[0])


def _balanced_error(metrics: dict) -> float:
    """Return the standard error of the mean of recalls."""
    if errors := metrics.get("recall_standard_error"):
        known = [e for e, recall in zip(errors, metrics["recall"]) if recall is not None]
        return float(np.sqrt(np.sum(np.square(known))) / len(known))
    # summaries of earlier versions have none; the variance of their recalls is binomial
    counts = np.sum(metrics["confusion"], axis=1)
    recalls = [(recall, n) for recall, n in zip(metrics["recall"], counts) if recall is not None]
    return float(np.sqrt(sum(recall * (1 - recall) / n for recall, n in recalls)) / len(recalls))


def _meaning(results: Sequence[Result]) -> str:
    """Return what ± means."""
    n_seeds, n_draws = (len({getattr(r.cell, of) for r in results}) for of in ("seed", "draw"))
    if n_seeds == n_draws == 1:
        return "standard error over events (one seed)"
    if n_draws == 1:
        return f"standard deviation over {n_seeds} seeds"
    return f"standard deviation over {n_seeds * n_draws} draws of the labels"


def _table(results: Sequence[Result]) -> list[str]:
    n_test = ", ".join(str(n) for n in sorted({r.n_test for r in results}))
    lines = [
        f"{n_test} test events per seed; percent; ± is the {_meaning(results)}. "
        f"Naming the largest class: {100 * _share_of_largest_class(results):.1f} %.",
        "",
        "| method | labels | prediction | accuracy | balanced accuracy |",
        "|---|---|---|---|---|",
    ]
    for (method, budget, prediction), metrics in _spread(results).items():
        cells = " | ".join(
            f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in metrics.values()
        )
        lines.append(f"| {method} | {budget.title} | {prediction.replace('_', ' ')} | {cells} |")
    return lines


def _differences(results: Sequence[Result]) -> list[str]:
    groups = _grouped(results)
    lines = [
        "Paired differences of accuracy on the same test events, percentage points, "
        "with the 95 % interval of a bootstrap over seeds, draws and events:",
        "",
        "| labels | difference | points | 95 % interval | |",
        "|---|---|---|---|---|",
    ]
    pairs_of_methods = PAIRS + _pairs_of_recipes([method for method, _ in groups])
    for budget in dict.fromkeys(budget for _, budget in groups):
        for (method, prediction), (other, other_prediction) in pairs_of_methods:
            if (method, budget) in groups and (other, budget) in groups:
                pairs = zip(groups[method, budget], groups[other, budget])
                gains = [
                    a.right[prediction] - b.right[other_prediction].astype(float) for a, b in pairs
                ]
                mean, low, high = (100 * value for value in bootstrap_interval(gains))
                interval = f"{low:+.1f} to {high:+.1f}"
                name = f"{method} {prediction} − {other} {other_prediction}".replace("_", " ")
                verdict = "" if low > 0 or high < 0 else "zero is within"
                lines.append(f"| {budget.title} | {name} | {mean:+.1f} | {interval} | {verdict} |")
    return lines


def _pairs_of_recipes(methods: Sequence[str]) -> tuple:
    """Return every recipe against every method and against the recipes before it."""
    recipes = [name for name in dict.fromkeys(methods) if name not in get_args(Method)]
    controls = [name for name in dict.fromkeys(methods) if name in get_args(Method)]
    return tuple(
        ((recipe, "ensemble"), (other, "stacked_trace" if other == "original" else "ensemble"))
        for number, recipe in enumerate(recipes)
        for other in controls + recipes[:number]
    )


def bootstrap_interval(gains: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float, float]:
    """Return the mean gain and its 95 % bootstrap interval.

    ``gains`` holds one array (N,) per seed: the difference for each event. Seeds are resampled, and
    events within each seed.
    """
    rng = np.random.default_rng(seed)
    # means over resampled events of each seed; then seeds are resampled
    resampled = np.stack(
        [gain[rng.integers(len(gain), size=(N_BOOTSTRAP, len(gain)))].mean(1) for gain in gains]
    )
    chosen = rng.integers(len(gains), size=(len(gains), N_BOOTSTRAP))
    means = np.take_along_axis(resampled, chosen, axis=0).mean(0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean([gain.mean() for gain in gains])), float(low), float(high)


def accuracy_over_sensors(result: Result, seed: int = 0) -> np.ndarray:
    """Return the accuracy (S,) of ensembles of 1 to S random sensors, mean over many draws."""
    rng = np.random.default_rng(seed)
    n_events, n_sensors, _ = result.log_probs.shape
    accuracy = np.zeros((N_SENSOR_DRAWS, n_sensors))
    for number in range(N_SENSOR_DRAWS):
        # existing sensors first, in random order; missing ones add nothing to the sum
        key = rng.random((n_events, n_sensors)) + np.isnan(result.log_probs[..., 0])
        order = np.argsort(key, axis=1)[..., None]
        summed = np.nancumsum(np.take_along_axis(result.log_probs, order, axis=1), axis=1)
        accuracy[number] = (summed.argmax(-1) == result.labels[:, None]).mean(0)
    return accuracy.mean(0)
