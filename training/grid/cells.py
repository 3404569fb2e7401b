"""Plan the trainings of reproduce.py: a grid whose cells are single runs.

A cell is one run of an entry script with the arguments a user would type; it is finished when its
summary.json exists. training/grid/queue.py runs them.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.feature_forest import FeaturesConfig
from training.grid.grid_config import FROM_PRETRAINED, Recipe, ReproduceConfig
from training.runs import CONFIG, RUNS_DIR, SUMMARY, require_same_config
from utils.config import ConfigError, load_config
from utils.schema import FinetuneConfig, OriginalConfig, RunConfig, SSLConfig

# up to this share, and with so many per class, fine-tuning keeps BatchNorm's statistics [L22]
FEW_LABELS = 0.1
CONFIGS: dict[str, type[RunConfig]] = {
    "ssl": SSLConfig,
    "finetune": FinetuneConfig,
    "features": FeaturesConfig,
    "original": OriginalConfig,
}


@dataclass(frozen=True, order=True)
class Budget:
    """How many labels a classifier is trained with: a share of them, or so many of each class."""

    fraction: float = 0.0  # 0 if the events of each class are counted
    per_class: int = 0  # 0 if it is a fraction

    @property
    def name(self) -> str:
        """Part of the run name."""
        return f"{self.per_class}perclass" if self.per_class else f"{100 * self.fraction:g}pct"

    @property
    def title(self) -> str:
        """The budget in tables and plots."""
        return f"{self.per_class} per class" if self.per_class else f"{100 * self.fraction:g} %"

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides of the classifier's configuration."""
        if self.per_class:
            return (f"dataset.train_events_per_class={self.per_class}",)
        return (f"dataset.train_data_ratio={self.fraction}",)


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    method: str  # pretrain, a method, or the name of a recipe
    seed: int
    budget: Budget | None  # None for pretraining
    kind: str  # of run: ssl, finetune, features, original
    config: str
    overrides: tuple[str, ...]
    run_name: str
    draw: int | None = None  # of the labels
    needs: tuple[Path, ...] = ()  # the run folder of its encoder

    @property
    def folder(self) -> Path:
        """The run folder."""
        return RUNS_DIR / self.kind / self.run_name

    @property
    def n_epochs(self) -> int:
        """Epochs of its training."""
        return load_config(self.config, CONFIGS[self.kind], self.overrides).n_epochs

    @property
    def begun(self) -> bool:
        """Whether the run has started."""
        return (self.folder / CONFIG).is_file()

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return (self.folder / SUMMARY).is_file()

    @property
    def ready(self) -> bool:
        """Whether the runs that it needs are finished."""
        return all((folder / SUMMARY).is_file() for folder in self.needs)


def plan_cells(grid: ReproduceConfig) -> tuple[list[Cell], list[Cell]]:
    """Return the pretraining cells and the cells that are compared.

    Raises ``ConfigError`` for a configuration that is not valid, or has changed since its run
    began.
    """
    recipes = {name: recipe for name, recipe in grid.recipes.items() if recipe.config_ssl}
    if set(FROM_PRETRAINED) & set(grid.methods):
        recipes = {"": _paper(grid)} | recipes
    pretraining: dict[
        tuple[Any, ...], Cell
    ] = {}  # by what is pretrained: recipes may share a pretraining
    for seed, (name, recipe) in itertools.product(grid.seeds, recipes.items()):
        pretraining.setdefault(
            _pretraining_key(recipe, seed), _pretraining_cell(grid, name, recipe, seed)
        )
    places = itertools.product(
        grid.seeds, _budgets(grid), grid.label_draws or (None,), (*grid.methods, *grid.recipes)
    )
    compared = [
        _cell(grid, method, budget, seed, draw, pretraining)
        for seed, budget, draw, method in places
    ]
    for cell in (*pretraining.values(), *compared):
        config = load_config(cell.config, CONFIGS[cell.kind], cell.overrides)
        if cell.kind == "ssl" and config.exp_params.model_save_ep_period < 1:
            raise ConfigError(
                f"{cell.config}: exp_params.model_save_ep_period must not be -1: "
                "the grid needs the encoder"
            )
        if cell.begun:
            require_same_config(cell.folder, config, "choose another name, or delete the folder")
    return list(pretraining.values()), compared


def _budgets(grid: ReproduceConfig) -> list[Budget]:
    per_class = [Budget(per_class=number) for number in grid.events_per_class]
    return per_class + [Budget(fraction=fraction) for fraction in grid.label_fractions]


def _common(grid: ReproduceConfig, seed: int, run_name: str) -> tuple[str, ...]:
    return (
        *grid.overrides.all,
        f"seed={seed}",
        f"dataset.train_test_split_rand_seed={seed}",
        f"run_name={run_name}",
    )


def _pretraining_key(recipe: Recipe, seed: int) -> tuple[Any, ...]:
    return recipe.config_ssl, recipe.overrides_ssl, seed


def _pretraining_cell(grid: ReproduceConfig, recipe_name: str, recipe: Recipe, seed: int) -> Cell:
    assert recipe.config_ssl is not None
    name = "-".join(filter(None, (grid.name, recipe_name, f"pretrain-seed{seed}")))
    overrides = (*_common(grid, seed, name), *recipe.overrides_ssl)
    return Cell("pretrain", seed, None, "ssl", recipe.config_ssl, overrides, name)


def _cell(
    grid: ReproduceConfig,
    method: str,
    budget: Budget,
    seed: int,
    draw: int | None,
    pretraining: Mapping[tuple[Any, ...], Cell],
) -> Cell:
    """Return the cell of a method or recipe; ``pretraining`` holds the pretraining cells."""
    name = _run_name(grid, method, budget, seed, draw)
    own = [] if draw is None else [f"dataset.label_draw_seed={draw}"]
    needs = []
    recipe = grid.recipes.get(method)
    if recipe is not None:
        kind, config, further = "finetune", recipe.config_ft, recipe.overrides_ft
    else:
        kind = method if method in ("original", "features") else "finetune"
        config = grid.config_original if method == "original" else grid.config_ft
        further = getattr(grid.overrides, method)
        if kind == "finetune":
            own += _of_method(method, budget)
    source = _paper(grid) if method in FROM_PRETRAINED else recipe
    if source is not None and source.config_ssl:
        encoder = pretraining[_pretraining_key(source, seed)]
        own += _from_pretrained(encoder)
        needs.append(encoder.folder)
    own += budget.overrides
    own += grid.overrides.label_fractions.get(budget.fraction, ())
    overrides = (*_common(grid, seed, name), *own, *further)
    return Cell(method, seed, budget, kind, config, overrides, name, draw, tuple(needs))


def _paper(grid: ReproduceConfig) -> Recipe:
    """Return the pretraining of the methods that need one."""
    return Recipe(config_ssl=grid.config_ssl, overrides_ssl=grid.overrides.ssl)


def _run_name(
    grid: ReproduceConfig, method: str, budget: Budget, seed: int, draw: int | None
) -> str:
    name = f"{grid.name}-{method}-{budget.name}-seed{seed}"
    return name if draw is None else f"{name}-draw{draw}"


def _of_method(method: str, budget: Budget) -> list[str]:
    """Return the overrides that make a classifier's configuration that of a method."""
    own = ["load_encoder.ckpt_fname=none"]
    few = budget.fraction <= FEW_LABELS
    if method == "finetuned" and few:
        own.append("exp_params.freeze_bn_stat_train=true")
    if method == "linear":
        own.append("exp_params.freeze_encoders=true")
    fitted = method in ("random", "logistic")
    own.append(f"exp_params.head={'logistic_regression' if fitted else 'adam'}")
    return own


def _from_pretrained(cell: Cell) -> tuple[str, ...]:
    """Return overrides that load the encoder of a pretraining."""
    config = load_config(cell.config, SSLConfig, cell.overrides)
    encoder = cell.folder / "checkpoints" / f"encoder-ep_{config.trainer_params.max_epochs}.ckpt"
    network = (
        f"load_encoder.{key}={getattr(config.model_params, key)}"
        for key in ("backbone_type", "stem_stride")
    )
    return f"load_encoder.ckpt_fname={encoder}", *network
