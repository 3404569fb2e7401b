"""Configuration of reproduce.py: a grid of methods x label budgets x seeds."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from utils.config import RemovedKey, Section
from utils.config_types import Count, FilePath, Index, Name, Override, Seed, Share, key

Method = Literal["original", "features", "random", "scratch", "linear", "logistic", "finetuned"]
FROM_PRETRAINED: tuple[Method, ...] = ("linear", "logistic", "finetuned")


class CellOverrides(Section):
    """Overrides ``key.path=value`` for all runs, a label fraction, a kind of run, or a method."""

    all: tuple[Override, ...] = key((), "For every training.")
    label_fractions: dict[Share, tuple[Override, ...]] = key(
        {}, "For the classifiers of one label fraction, for example `{0.8: [exp_params.LR=1e-4]}`."
    )
    ssl: tuple[Override, ...] = key((), "For the pretrainings.")
    original: tuple[Override, ...] = key((), "For the previous study's classifiers.")
    features: tuple[Override, ...] = key((), "For the random forests.")
    random: tuple[Override, ...] = key((), "For linear heads on untrained encoders.")
    scratch: tuple[Override, ...] = key((), "For classifiers from scratch.")
    linear: tuple[Override, ...] = key((), "For linear evaluation.")
    logistic: tuple[Override, ...] = key((), "For logistic regression on pretrained encoders.")
    finetuned: tuple[Override, ...] = key((), "For fine-tuned classifiers.")


class Recipe(Section):
    """A row of the grid with its own configurations."""

    config_ft: FilePath = key("configs/few_labels.yaml", "Configuration of the classifier.")
    config_ssl: FilePath | None = key(
        None, "Configuration of the pretraining of its encoder; `null`: no pretraining."
    )
    removed = {
        "teacher": RemovedKey(
            None, "self-training is gone, see exp_params.teacher_ckpt; leave it out"
        )
    }
    overrides_ft: tuple[Override, ...] = key((), "Changes of `config_ft`.")
    overrides_ssl: tuple[Override, ...] = key((), "Changes of `config_ssl`.")


class ReproduceConfig(Section):
    """Configuration of a grid: methods and recipes x label budgets x seeds x label draws."""

    name: Name = key("paper", "First part of the runs' names, and the folder under runs/reproduce.")
    config_ssl: FilePath = key("configs/ssl.yaml", "Configuration that pretrainings start from.")
    config_ft: FilePath = key("configs/finetune.yaml", "Configuration that classifiers start from.")
    config_original: FilePath = key(
        "original_implementation/config.yaml",
        "Configuration that the previous study's classifiers start from.",
    )
    methods: tuple[Method, ...] = key(
        ("original", "scratch", "linear", "finetuned"),
        "What is compared: the previous study, a random forest on hand-made features, logistic "
        "regression on an untrained encoder, training from scratch, linear evaluation by Adam or "
        "by logistic regression, fine-tuning (with `freeze_bn_stat_train` up to 10 % of the "
        "labels, and for all `events_per_class`).",
    )
    recipes: dict[Name, Recipe] = key(
        {}, "Further rows by name, each with its own configurations: `{name: {config_ft: FILE}}`."
    )
    label_fractions: tuple[Share, ...] = key(
        (0.05, 0.1, 0.8), "Values of `dataset.train_data_ratio`."
    )
    events_per_class: tuple[Count, ...] = key(
        (), "Values of `dataset.train_events_per_class`, beside the label fractions."
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = key(
        (0, 1, 2, 3, 4), "Values of `seed` and of `dataset.train_test_split_rand_seed`."
    )
    label_draws: tuple[Seed, ...] = key(
        (),
        "Values of `dataset.label_draw_seed`: several draws of the labels for each seed, with the "
        "same test events and the same pretraining. `[]`: one draw.",
    )
    gpus: tuple[Index, ...] = key(
        (0,), "GPUs; one training runs on each at a time. `[]`: the CPU, a few at a time."
    )
    overrides: CellOverrides = key(CellOverrides(), "Changes of the configurations above.")

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        lists = {
            "methods": self.methods,
            "label_fractions": self.label_fractions,
            "events_per_class": self.events_per_class,
            "label_draws": self.label_draws,
            "seeds": self.seeds,
            "gpus": self.gpus,
        }
        found = [
            f"{key}: contains duplicates"
            for key, values in lists.items()
            if len(set(values)) < len(values)
        ]
        if not self.label_fractions and not self.events_per_class:
            found.append("label_fractions: is empty, and events_per_class too; give one value")
        if not self.methods and not self.recipes:
            found.append("methods: is empty, and recipes too; give one row")
        found += [
            f"recipes.{name}: is the name of a method; choose another"
            for name in self.recipes
            if name in get_args(Method)
        ]
        strangers = self.overrides.label_fractions.keys() - set(self.label_fractions)
        found += [
            f"overrides.label_fractions: found {fraction}; not among label_fractions"
            for fraction in sorted(strangers)
        ]
        return found
