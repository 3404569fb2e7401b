"""Plot of a grid's results: accuracy over labels and over the number of sensors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from utils.figures import BLUE, GREY, ORANGE, save_figure

METHOD_COLORS = {"original": GREY, "scratch": ORANGE, "linear": "#5b8e4b", "finetuned": BLUE}
METHOD_NAMES = {
    "original": "previous study",
    "scratch": "from scratch",
    "linear": "linear evaluation",
    "finetuned": "fine-tuned",
}


def plot_comparison(
    spread: Mapping[tuple[str, float, str], dict],
    meaning: str,
    curves: Mapping[tuple[str, float], np.ndarray],
    path: Path,
) -> Path:
    """Draw the accuracy of each method over the share of labels and over the number of sensors.

    ``spread`` holds (mean, spread) of each metric by (method, fraction, prediction), ``curves`` the
    accuracy (S,) of 1 to S sensors by (method, fraction). ``meaning`` names the kind of spread, for
    example "standard error".
    """
    fractions = sorted({fraction for _, fraction, _ in spread})

    def draw(figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        (_draw_bars if len(fractions) == 1 else _draw_fractions)(left, spread)
        left.set_title(f"mean ± {meaning}")
        for (method, fraction), accuracy in curves.items():
            if fraction == fractions[0]:
                right.plot(
                    np.arange(1, len(accuracy) + 1),
                    100 * accuracy,
                    color=METHOD_COLORS[method],
                    label=METHOD_NAMES[method],
                )
        for (method, fraction, _), metrics in spread.items():
            if method == "original" and fraction == fractions[0]:
                right.axhline(
                    100 * metrics["accuracy"][0],
                    color=GREY,
                    ls=":",
                    label=f"{METHOD_NAMES[method]} (stacked trace)",
                )
        right.set(
            xlabel="sensors in the ensemble",
            ylabel="accuracy (%)",
            title=f"{100 * fractions[0]:g} % of the labels",
        )
        right.grid(alpha=0.3)
        right.legend(frameon=False)

    return save_figure(path, (12, 4.6), draw)


def _draw_bars(axes, spread: Mapping[tuple[str, float, str], dict]) -> None:
    rows = list(spread.items())
    for row, ((method, _, prediction), metrics) in enumerate(rows):
        mean, error = (100 * value for value in metrics["accuracy"])
        alpha = 0.45 if prediction == "single_channel" else 1.0
        axes.barh(
            row,
            mean,
            xerr=error,
            color=METHOD_COLORS[method],
            alpha=alpha,
            height=0.7,
            error_kw={"ecolor": "black", "capsize": 3},
        )
        axes.text(
            1,
            row,
            f"{mean:.0f} %",
            va="center",
            ha="left",
            color="white" if alpha == 1 else "black",
        )
    names = [
        f"{METHOD_NAMES[method]}, {prediction.replace('_', ' ')}"
        for (method, _, prediction), _ in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy on the test events (%)", xlim=(0, 100))
    axes.grid(axis="x", alpha=0.3)


def _draw_fractions(axes, spread: Mapping[tuple[str, float, str], dict]) -> None:
    lines: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for (method, fraction, prediction), metrics in spread.items():
        lines.setdefault((method, prediction), []).append(
            (100 * fraction, *(100 * value for value in metrics["accuracy"]))
        )
    for (method, prediction), points in sorted(lines.items()):
        percent, mean, error = zip(*sorted(points))
        style = (
            {"ls": "--", "marker": "o", "mfc": "white"}
            if prediction == "single_channel"
            else {"ls": "-", "marker": "o"}
        )
        label = f"{METHOD_NAMES[method]}, {prediction.replace('_', ' ')}"
        axes.errorbar(
            percent, mean, error, color=METHOD_COLORS[method], label=label, capsize=3, **style
        )
    axes.set_xscale("log")
    ticks = sorted({percent for points in lines.values() for percent, *_ in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(
        xlabel="share of the labels in training (%)",
        ylabel="accuracy on the test events (%)",
    )
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.3 * (top - bottom))  # room for the legend
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
