"""Compare the cells of a grid: tables, paired differences with bootstrap intervals, plot."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from training.grid.cells import Budget
from training.grid.comparison_plots import SHOWN, plot_comparison
from training.grid.grid_config import Method
from training.grid.results import Result, accuracy_over_sensors
from utils.files import atomic

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "expected_calibration_error")
N_BOOTSTRAP = 4000
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
    with atomic(folder / "results.md") as partial:
        partial.write_text(text, encoding="utf-8")
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
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
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


def _mean_and_spread(metrics: list[dict[str, Any]], name: str) -> tuple[float, float]:
    values = [values[name] for values in metrics]
    if len(values) > 1:
        return float(np.mean(values)), float(np.std(values, ddof=1))
    if name == "accuracy":
        return values[0], metrics[0]["accuracy_standard_error"]
    return values[0], _balanced_error(metrics[0])


def _balanced_error(metrics: dict[str, Any]) -> float:
    """Return the standard error of the mean of recalls."""
    errors = zip(metrics["recall_standard_error"], metrics["recall"])
    known = [error for error, recall in errors if recall is not None]
    return float(np.sqrt(np.sum(np.square(known))) / len(known))


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


def _pairs_of_recipes(methods: Sequence[str]) -> tuple[Any, ...]:
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
