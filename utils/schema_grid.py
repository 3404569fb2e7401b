"""Every key of the grid's configuration."""

from typing import Annotated, Literal

from pydantic import Field

from utils.schema import FilePath, Integer, Section, Seed, Share

Method = Literal["original", "scratch", "linear", "finetuned"]


class CellOverrides(Section):
    """Hold ``key.path=value`` overrides: for all runs, for one kind of run, for one label fraction, for one method."""

    all: tuple[str, ...] = ()
    label_fractions: dict[Share, tuple[str, ...]] = {}
    ssl: tuple[str, ...] = ()
    original: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    linear: tuple[str, ...] = ()
    finetuned: tuple[str, ...] = ()


class ReproduceConfig(Section):
    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=100)] = "paper"
    config_ssl: FilePath = "configs/ssl.yaml"
    config_ft: FilePath = "configs/finetune.yaml"
    config_original: FilePath = "original_implementation/config.yaml"
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("original", "scratch", "linear", "finetuned")
    label_fractions: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.05, 0.1, 0.8)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    gpus: tuple[Annotated[Integer, Field(ge=0)], ...] = (0,)
    overrides: CellOverrides = CellOverrides()

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        lists = {"methods": self.methods, "label_fractions": self.label_fractions, "seeds": self.seeds, "gpus": self.gpus}
        found = [f"{key}: names something twice" for key, values in lists.items() if len(set(values)) < len(values)]
        strangers = self.overrides.label_fractions.keys() - set(self.label_fractions)
        found += [f"overrides.label_fractions: found {fraction}; not among label_fractions" for fraction in sorted(strangers)]
        return found
