import json
import os
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from models.evaluation import evaluate
from training.grid.cells import Budget, Cell
from training.grid.comparison import bootstrap_interval, write_comparison
from training.grid.comparison_plots import label_ticks
from training.grid.results import Result, accuracy_over_sensors, read_result
from utils.errors import UserError


def result(method="scratch", fraction=0.1, seed=0, n=60, strength=1.0) -> Result:
    rng = np.random.default_rng([seed, len(method)])
    labels = rng.integers(3, size=n)
    logits = rng.normal(size=(n, 5, 3)) + strength * np.eye(3)[labels][:, None]
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    right = {
        "ensemble": log_probs.mean(1).argmax(-1) == labels,
        "single_channel": (log_probs.argmax(-1) == labels[:, None]).mean(1),
    }
    right["stacked_trace"] = right["ensemble"]
    names = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "expected_calibration_error")
    kinds = ("stacked_trace",) if method == "original" else ("ensemble", "single_channel")
    extra = {
        "recall": [0.5, 0.8, None],  # of 20 and 40 events
        "recall_standard_error": [np.sqrt(0.25 / 20), np.sqrt(0.16 / 40), None],
        "n_events": n,
    }
    metrics = {kind: dict.fromkeys(names, float(right[kind].mean())) | extra for kind in kinds}
    for values in metrics.values():
        values["accuracy_standard_error"] = float(
            np.sqrt(values["accuracy"] * (1 - values["accuracy"]) / n)
        )
    return Result(
        Cell(method, seed, Budget(fraction), "finetune", "c", (), f"{method}-{seed}"),
        round(100 * fraction),
        n,
        metrics,
        right,
        log_probs,
        labels,
    )


def test_bootstrap_interval_covers_the_truth_and_is_paired():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        gains = [rng.normal(0.1, 0.5, 100)]
        mean, low, high = bootstrap_interval(gains, seed=trial)
        assert mean == pytest.approx(gains[0].mean()) and low < mean < high
        covered += low < 0.1 < high
    assert covered >= 50
    assert bootstrap_interval([np.full(50, 0.2), np.full(50, 0.4)])[1:] == pytest.approx((0.2, 0.4))


def test_accuracy_over_sensors_starts_at_single_channels_and_ends_at_the_ensemble():
    r = result(n=400)
    curve = accuracy_over_sensors(r)
    assert len(curve) == 5 and curve[-1] == pytest.approx(r.right["ensemble"].mean())
    assert curve[0] == pytest.approx(r.right["single_channel"].mean(), abs=0.02)
    assert curve[0] < curve[2] < curve[4]


def test_missing_sensors_are_not_counted():
    r = result(n=200)
    log_probs = np.concatenate([r.log_probs, np.full((200, 3, 3), np.nan)], axis=1)
    curve = accuracy_over_sensors(r._replace(log_probs=log_probs))
    assert curve[4:] == pytest.approx(np.full(4, r.right["ensemble"].mean()))


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
@pytest.mark.parametrize("fractions", [[0.1], [0.05, 0.8]])
def test_report(tmp_path, seeds, fractions):
    results = [
        result(method, fraction, seed)
        for seed in seeds
        for fraction in fractions
        for method in ("original", "scratch", "finetuned")
    ]
    text = write_comparison(results, tmp_path, "python reproduce.py")
    assert {p.name for p in tmp_path.iterdir()} == {"results.csv", "results.md", "comparison.png"}
    accuracies = [
        100 * r.metrics["ensemble"]["accuracy"]
        for r in results
        if r.cell.method == "scratch" and r.cell.budget.fraction == fractions[0]
    ]
    spread = (
        np.std(accuracies, ddof=1)
        if len(seeds) > 1
        else np.sqrt(accuracies[0] * (100 - accuracies[0]) / 60)
    )
    assert (
        f"| scratch | {100 * fractions[0]:g} % | ensemble | "
        f"{np.mean(accuracies):.1f} ± {spread:.1f} |" in text
    )
    if len(seeds) == 1:  # mean of two recalls
        assert f"± {100 * np.sqrt(0.25 / 20 + 0.16 / 40) / 2:.1f} |\n" in text
    assert "finetuned ensemble − scratch ensemble" in text
    assert ("standard deviation over 3 seeds" in text) == (len(seeds) > 1)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 5 * len(seeds) * len(
        fractions
    )


def test_labels_of_neighbouring_budgets_do_not_cover_each_other():
    n_train = {Budget(0.025): 90, Budget(per_class=10): 80, Budget(0.05): 181, Budget(0.8): 1454}
    assert label_ticks(n_train) == ["\n\n90\n2.5 %", "80\n10 per class", "181\n5 %", "1454\n80 %"]
    assert label_ticks({Budget(0.1): 20}) == ["20\n10 %"]


def test_sensors_are_drawn_for_all_fractions(tmp_path, monkeypatch):
    """One curve for each method with sensors and each fraction, and the guesses."""
    figures = []

    @contextmanager
    def picture(path, size):
        figures.append(Figure(size))
        yield figures[-1]

    monkeypatch.setattr("training.grid.comparison_plots.picture", picture)
    results = [result("scratch", fraction) for fraction in (0.05, 0.1, 0.8)]
    write_comparison(results, tmp_path, "python reproduce.py")
    curves = [line for line in figures[0].axes[1].lines if len(line.get_xdata()) == 5]
    names = {line.get_label() for line in figures[0].axes[1].lines}
    assert len(curves) == 3 and names >= {"chance", "largest class"}
    assert len({line.get_linewidth() for line in curves}) == 3


def test_single_channels_count_per_event_in_tables_and_differences(tmp_path, monkeypatch):
    """An event of 90 channels, all wrong, counts as much as one of 3."""
    rng, n_classes = np.random.default_rng(0), 2
    n_channels = np.r_[np.full(4, 90), np.full(36, 3)]
    mask = np.arange(90) < n_channels[:, None]
    labels = rng.integers(n_classes, size=40)
    logits = rng.normal(size=(40, 90, n_classes)).astype(np.float32)
    logits[4:, :2] += 9 * np.eye(n_classes)[labels[4:]][:, None]  # two of three channels know it
    logits[:4] -= 9 * np.eye(n_classes)[labels[:4]][:, None]
    event = torch.from_numpy(np.nonzero(mask)[0])
    log_probs = torch.from_numpy(logits[mask]).log_softmax(-1)
    of_channels = evaluate(log_probs, torch.from_numpy(labels)[event], event)
    monkeypatch.chdir(tmp_path)
    cell = Cell("scratch", 0, Budget(0.1), "finetune", "c", (), "run")
    cell.folder.mkdir(parents=True)
    summary = {"metrics": {"single_channel": of_channels}, "data": {"n_train": 9}}
    summary["learned_classes"] = [True, True]
    (cell.folder / "summary.json").write_text(json.dumps(summary))
    np.savez(cell.folder / "predictions.npz", logits=logits, mask=mask, labels=labels)
    found = read_result(cell)
    single = found.metrics["single_channel"]
    right = found.right["single_channel"]
    assert 0.6 < right.mean() < 0.9
    assert single["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert single["recall"][0] == pytest.approx(right[labels == 0].mean(), abs=1e-6)
    text = write_comparison([found], tmp_path, "python reproduce.py")
    gain = 100 * (found.right["ensemble"].mean() - right.mean())
    assert f"scratch ensemble − scratch single channel | {gain:+.1f} |" in text
    assert f"| single channel | {100 * right.mean():.1f} ±" in text


def test_recipes_are_compared_with_every_control_and_earlier_recipe(tmp_path):
    results = []
    for draw in (0, 1):
        for method in ("features", "scratch", "a", "b"):
            r = result(method, 0.1, draw)
            results.append(r._replace(cell=replace(r.cell, seed=0, draw=draw)))
    text = write_comparison(results, tmp_path, "python reproduce.py")
    for pair in ("a ensemble − features", "a ensemble − scratch", "b ensemble − a ensemble"):
        assert pair in text
    assert "a ensemble − b ensemble" not in text
    assert "standard deviation over 2 draws of the labels" in text
    share = np.mean([np.bincount(r.labels).max() / 60 for r in results])
    assert f"Naming the largest class: {100 * share:.1f} %" in text


def test_balanced_accuracy_is_over_the_classes_that_could_be_learned(finished):
    cell, _ = finished
    confusion = [[5, 5, 0, 0], [1, 9, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]]
    metrics = {"recall": [0.5, 0.9, 0.0, None], "balanced_accuracy": 0.1, "confusion": confusion}
    summary = {"metrics": {"ensemble": metrics}, "data": {"n_train": 3}}
    summary["learned_classes"] = [True, True, False, True]
    (cell.folder / "summary.json").write_text(json.dumps(summary))
    found = read_result(cell).metrics["ensemble"]
    assert found["balanced_accuracy"] == pytest.approx(0.7)
    assert found["macro_f1"] == pytest.approx((2 * 5 / (10 + 9) + 2 * 9 / (10 + 14)) / 2)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Return a cell and the arrays of its predictions, which a test may write in another way."""
    monkeypatch.chdir(tmp_path)
    cell = Cell("scratch", 0, Budget(0.1), "finetune", "c", (), "cell")
    cell.folder.mkdir(parents=True)
    (cell.folder / "summary.json").write_text(
        json.dumps(
            {
                "metrics": {"ensemble": {"recall": [0.5, 0.5, 0.5], "confusion": [[1, 1, 0]] * 3}},
                "data": {"n_train": 3},
                "learned_classes": [True] * 3,
            }
        )
    )
    arrays = {
        "logits": np.zeros((4, 2, 3), "f4"),
        "mask": np.ones((4, 2), bool),
        "labels": np.zeros(4, int),
    }
    np.savez_compressed(cell.folder / "predictions.npz", **arrays)
    return cell, arrays


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_predictions_never_run_code(finished, tmp_path):
    cell, arrays = finished
    assert read_result(cell).n_test == 4
    for name in arrays:
        np.savez_compressed(
            cell.folder / "predictions.npz",
            **arrays | {name: np.array([Malicious()], dtype=object)},
        )
        with pytest.raises(
            UserError,
            match="cell: .*predictions.npz is damaged .*allow_pickle=False.*delete the folder",
        ):
            read_result(cell)
    assert not (tmp_path / "pwned").exists()


def test_damaged_results_are_one_message(finished):
    cell, arrays = finished
    path = cell.folder / "predictions.npz"
    whole = path.read_bytes()
    for content in (
        b"",
        b"garbage",
        whole[:-30],
        whole[:200],
        whole[:60] + bytes(40) + whole[100:],
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            read_result(cell)
    for name, array in (
        ("mask", np.ones((4, 3), bool)),
        ("mask", np.zeros((4, 2), bool)),
        ("labels", np.zeros(5, int)),
        ("logits", np.zeros((4, 2), "f4")),
        ("labels", np.array(["a"] * 4)),
    ):
        np.savez_compressed(path, **arrays | {name: array})
        with pytest.raises(UserError, match="is damaged"):
            read_result(cell)
    path.write_bytes(whole)
    for content in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        (cell.folder / "summary.json").write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            read_result(cell)
