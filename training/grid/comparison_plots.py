"""Plot of a grid's results: accuracy over labels and over the number of sensors."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.grid.cells import Budget
from utils.figures import BLUE, GREY, ORANGE, picture

METHOD_COLORS = {
    "original": GREY,
    "features": "#a08060",
    "random": "#8d99a6",
    "scratch": ORANGE,
    "linear": "#5b8e4b",
    "logistic": "#8fbf6b",
    "finetuned": BLUE,
}
RECIPE_COLORS = ("#c2185b", "#7b3fa0", "#00897b", "#e0a800", "#5d6d7e", "#2e4057")
METHOD_NAMES = {
    "original": "previous study",
    "features": "forest on hand-made features",
    "random": "untrained encoder, logistic regression",
    "scratch": "from scratch",
    "linear": "linear evaluation",
    "logistic": "pretrained encoder, logistic regression",
    "finetuned": "fine-tuned",
}
DOT: dict[str, Any] = {"fmt": "o", "color": "black", "mfc": "white", "ms": 5, "zorder": 3}
SHOWN = ("stacked_trace", "single_channel", "ensemble")
MAX_BUDGETS_AS_BARS = 2
LABEL_SHARE = 0.14  # of the axis of labels, which a label such as "10 per class" needs
Spread = Mapping[tuple[str, Budget, str], dict[str, tuple[float, float]]]


def plot_comparison(
    spread: Spread,
    meaning: str,
    curves: Mapping[tuple[str, Budget], np.ndarray],
    n_train: Mapping[Budget, int],
    guesses: Mapping[str, float],
    path: Path,
) -> Path:
    """Draw the accuracy of each method over the number of labels and over the number of sensors.

    ``spread`` holds (mean, spread) of each metric by (method, budget, prediction), ``curves`` the
    accuracy (S,) of 1 to S sensors by (method, budget), ``n_train`` the training events of each
    budget, ``guesses`` the accuracy of naming the largest class and of chance. ``meaning`` names
    the kind of spread, for example "standard error".
    """
    budgets = list(dict.fromkeys(budget for _, budget, _ in spread))
    colors = _colors([method for method, _, _ in spread])

    with picture(path, (13, 5.4)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        draw_labels = _draw_bars if len(budgets) <= MAX_BUDGETS_AS_BARS else _draw_budgets
        draw_labels(left, spread, colors, n_train, guesses)
        left.set_title(f"mean ± {meaning}", fontsize=10)
        _draw_sensors(right, spread, colors, n_train, curves)
        _draw_guesses(right.axhline, guesses)
        right.legend(fontsize=8, framealpha=0.9, loc="lower right")
    return path


def _draw_sensors(
    axes: Any,
    spread: Spread,
    colors: Mapping[str, str],
    n_train: Mapping[Budget, int],
    curves: Mapping[tuple[str, Budget], np.ndarray],
) -> None:
    """Draw the accuracy over the number of sensors; the fewer labels, the thinner the line.

    Methods without sensors, such as the previous study's stack, are dotted lines across.
    """
    budgets = sorted(n_train, key=lambda budget: n_train[budget])
    widths = dict(zip(budgets, np.linspace(0.8, 2.2, len(budgets)) if len(budgets) > 1 else (1.8,)))
    named: set[str] = set()
    for (method, budget), accuracy in curves.items():
        style = {"color": colors[method], "lw": widths[budget]}
        name = None if method in named else _title(method)
        axes.plot(np.arange(1, len(accuracy) + 1), 100 * accuracy, label=name, **style)
        named.add(method)
    for (method, budget, _), metrics in spread.items():
        if method not in {with_sensors for with_sensors, _ in curves}:
            style = {"color": colors[method], "lw": widths[budget], "ls": ":"}
            name = None if method in named else f"{_title(method)} (all channels)"
            axes.axhline(100 * metrics["accuracy"][0], label=name, **style)
            named.add(method)
    numbers = ", ".join(str(n_train[budget]) for budget in budgets)
    title = f"{numbers} labelled events" + (", from thin to thick" if len(budgets) > 1 else "")
    axes.set(xlabel="sensors in the ensemble", ylabel="accuracy (%)")
    axes.set_title(title, fontsize=10)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def _draw_guesses(line: Any, guesses: Mapping[str, float]) -> None:
    """Draw the accuracy of guessing by ``axhline`` or ``axvline``."""
    for (name, level), style in zip(guesses.items(), ("--", ":")):
        line(100 * level, color="black", lw=1, ls=style, label=name)


def _colors(methods: Iterable[str]) -> dict[str, str]:
    recipes = [name for name in dict.fromkeys(methods) if name not in METHOD_COLORS]
    return METHOD_COLORS | dict(zip(recipes, itertools.cycle(RECIPE_COLORS)))


def _title(method: str) -> str:
    return METHOD_NAMES.get(method, method.replace("_", " "))


def _draw_bars(
    axes: Any,
    spread: Spread,
    colors: Mapping[str, str],
    n_train: Mapping[Budget, int],
    guesses: Mapping[str, float],
) -> None:
    """Draw a bar for the event prediction of each method, and a dot for its single channels."""
    row, places, names = 0.0, [], []
    for budget in n_train:
        heading = f"{n_train[budget]} labelled events ({budget.title})"
        axes.text(0.5, row, heading, weight="bold", backgroundcolor="white")
        for method in dict.fromkeys(m for m, b, _ in spread if b == budget):
            row += 1
            for kind in SHOWN:
                if (method, budget, kind) in spread:
                    accuracy = spread[method, budget, kind]["accuracy"]
                    mean, error = (100 * value for value in accuracy)
                    if kind == "single_channel":
                        axes.errorbar(mean, row, xerr=error, **DOT)
                    else:
                        _draw_bar(axes, row, mean, error, colors[method])
            places.append(row)
            names.append(_title(method))
        row += 1.6
    axes.errorbar([], [], xerr=[], label="one channel", **DOT)
    axes.set_yticks(places, names)
    axes.set_ylim(row - 0.9, -0.7)
    _draw_guesses(axes.axvline, guesses)
    axes.set(xlabel="accuracy on the test events (%)", xlim=(0, 100))
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, -0.24), ncols=3)


def _draw_bar(axes: Any, row: float, mean: float, error: float, color: str) -> None:
    style = {"ecolor": "black", "capsize": 3}
    axes.barh(row, mean, xerr=error, color=color, height=0.75, error_kw=style)
    axes.text(1, row, f"{mean:.0f} %", va="center", ha="left", color="white", weight="bold")


def _draw_budgets(
    axes: Any,
    spread: Spread,
    colors: Mapping[str, str],
    n_train: Mapping[Budget, int],
    guesses: Mapping[str, float],
) -> None:
    lines: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for (method, budget, prediction), metrics in spread.items():
        mean, error = (100 * value for value in metrics["accuracy"])
        lines.setdefault((method, prediction), []).append((n_train[budget], mean, error))
    for (method, prediction), points in lines.items():
        n_events, means, errors = zip(*sorted(points))
        single = prediction == "single_channel"
        axes.errorbar(
            n_events,
            means,
            errors,
            color=colors[method],
            label=None if single else _title(method),
            capsize=2,
            marker="o",
            markersize=4,
            lw=1 if single else 1.8,
            ls="--" if single else "-",
            mfc="white" if single else colors[method],
        )
    _draw_guesses(axes.axhline, guesses)
    axes.plot([], [], color=GREY, ls="--", marker="o", mfc="white", label="single channels")
    axes.set_xscale("log")
    axes.set_xticks(list(n_train.values()), label_ticks(n_train))
    axes.minorticks_off()
    axes.set(xlabel="labelled events in training", ylabel="accuracy on the test events (%)")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, framealpha=0.9, loc="lower right", ncols=2)


def label_ticks(n_train: Mapping[Budget, int]) -> list[str]:
    """Return a label for each budget: events and name; lower where it would cover another."""
    logs = np.log10(list(n_train.values()))
    width = LABEL_SHARE * max(np.ptp(logs), 1e-9)
    last_on_level: list[float] = []  # the rightmost label on each level
    levels = np.zeros(len(logs), int)
    for number in np.argsort(logs):
        free = [k for k, last in enumerate(last_on_level) if logs[number] - last >= width]
        levels[number] = free[0] if free else len(last_on_level)
        if not free:
            last_on_level.append(0.0)
        last_on_level[levels[number]] = logs[number]
    labels = zip(levels.tolist(), n_train.items())
    return ["\n\n" * level + f"{n}\n{budget.title}" for level, (budget, n) in labels]
