"""Write docs/configuration.md, the table of all configuration keys; run by ``make docs``."""

import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

# Python looks for modules in the folder of the script, which is one below the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prediction.predict_config import PredictConfig
from training.grid.grid_config import ReproduceConfig
from utils.config_types import WHOLE_NUMBERS_END
from utils.schema import FinetuneConfig, OriginalConfig, SSLConfig

LIMITS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}  # attribute names of pydantic's limits
TARGET = Path(__file__).resolve().with_name("configuration.md")
TRAININGS: dict[str, type[BaseModel]] = {
    "ssl": SSLConfig,
    "ft": FinetuneConfig,
    "orig": OriginalConfig,
}
TEXT = """# Configuration keys

You get: every key of every YAML file, with meaning, default and allowed values.

*Made by `make docs` from the schema; change descriptions there: `utils/schema.py` and the sections
it imports, `training/grid/grid_config.py`, `prediction/predict_config.py`.*

A configuration is a YAML file. A key that is left out has its default. Every key can be overridden
behind the flags of a command, by its name in the tables: `dataset.batch_size=32`.

A file may build on another: `base: ssl.yaml`, a path relative to the file itself, takes everything
from there, and the file holds only what differs. Sections are merged key by key; any other value,
lists included, replaces the base's.

Numbers may be written `1e-3`. Whole numbers are below 2³². `null` is no value. Text is what was
typed, also if YAML would take it for something else: a class `007`, a network `NO`; in lists and
mappings of text `null` is text, too.

## Trainings

`ssl`: `sslearn.py` with `configs/ssl.yaml`. `ft`: `finetune.py` with `configs/finetune.yaml`.
`orig`: `original_implementation/train.py` with `original_implementation/config.yaml`. The last
column says which of them have the key.

{trainings}
## Grid of trainings

`reproduce.py` with `configs/reproduce.yaml`.

{grid}
## Prediction

`predict.py` with `configs/predict.yaml`.

{prediction}"""


def configuration_reference() -> str:
    """Return the content of docs/configuration.md."""
    return TEXT.format(
        trainings=reference_table(TRAININGS),
        grid=reference_table({"reproduce": ReproduceConfig}),
        prediction=reference_table({"predict": PredictConfig}),
    )


class Entry(NamedTuple):
    """Description of one key in one configuration."""

    meaning: str
    default: str
    allowed: str


def reference_table(configs: Mapping[str, type[BaseModel]]) -> str:
    """Describe every key of the configurations as a Markdown table, one row per dotted key.

    ``configs`` maps the short name of each configuration to its class. If configurations
    differ in a key, its row gives the value of each; with one configuration there is no column
    ``in``.
    """
    entries = {name: describe_keys(config) for name, config in configs.items()}
    header = ["key", "meaning", "default", "allowed", *(["in"] if len(configs) > 1 else [])]
    rows = [header, ["---"] * len(header)]
    for key in _in_order(entries.values()):
        found = {name: keys[key] for name, keys in entries.items() if key in keys}
        is_section = not any(entry.allowed for entry in found.values())
        cells = [f"**{key}**" if is_section else f"`{key}`"]
        for column in Entry._fields:
            texts = {name: getattr(entry, column) for name, entry in found.items()}
            cells.append(_of_each(texts))
        if len(configs) > 1:
            cells.append("all" if len(found) == len(configs) else ", ".join(found))
        rows.append(cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def describe_keys(config: type[BaseModel]) -> dict[str, Entry]:
    """Return the entry of every dotted key of a configuration, sections before their keys."""
    return _describe(config, config(), "")


def _describe(model: type[BaseModel], defaults: BaseModel, prefix: str) -> dict[str, Entry]:
    found = {}
    for name, field in model.model_fields.items():
        value = getattr(defaults, name)
        section = _section(field.annotation)
        if field.annotation is section:
            found[prefix + name] = Entry(meaning_of(model, name), "", "")
        else:
            allowed = allowed_values(field.annotation, field.metadata)
            found[prefix + name] = Entry(meaning_of(model, name), _as_yaml(value), allowed)
        if section is not None and get_origin(field.annotation) is dict:
            found |= _describe(section, section(), f"{prefix}{name}.NAME.")
        elif section is not None:
            found |= _describe(section, value, f"{prefix}{name}.")
    return found


def meaning_of(model: type[BaseModel], name: str) -> str:
    """Return the description of a key; a class that only changes the default inherits it."""
    for parent in model.__mro__:
        field: FieldInfo | None = getattr(parent, "model_fields", {}).get(name)
        if field is not None and field.description:
            return field.description
    return ""


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section class in an annotation or a union, or None."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def allowed_values(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Describe the values that a type allows: `a` or `b`, number > 0, list of: path."""
    words = [part for part in metadata if isinstance(part, str)]
    origin, parts = get_origin(annotation), get_args(annotation)
    if words:
        return words[0]
    if origin is Annotated:
        inner, *extra = parts
        flat = [limit for part in extra for limit in getattr(part, "metadata", [part])]
        return allowed_values(inner, [*flat, *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(allowed_values(part) for part in parts)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list of: {allowed_values(parts[0])}"
    if origin is dict:
        return f"mapping of {allowed_values(parts[0])} to {allowed_values(parts[1])}"
    return _allowed_plain(annotation, metadata)


def _allowed_plain(kind: type, metadata: Sequence[Any]) -> str:
    if kind is bool:
        return "`true`, `false`"
    if kind in (int, float):
        return f"{'whole number' if kind is int else 'number'} {_limits(metadata)}".strip()
    if kind is type(None):
        return "`null`"
    if issubclass(kind, BaseModel):
        return " and ".join(f"`{name}`" for name in kind.model_fields)
    return "text"


def _limits(metadata: Sequence[Any]) -> str:
    """Return the limits of a number, lower before upper, without that of all whole numbers."""
    limits = []
    for name, sign in LIMITS.items():
        found = [getattr(part, name) for part in metadata if hasattr(part, name)]
        limits += [f"{sign} {limit:.10g}" for limit in found if limit != WHOLE_NUMBERS_END]
    return ", ".join(limits)


def _as_yaml(value: Any) -> str:
    """Return a default as YAML in backticks."""
    return f"`{_plain_yaml(value)}`"


def _plain_yaml(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_plain_yaml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain_yaml, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _of_each(texts: Mapping[str, str]) -> str:
    """Return the common text, or each different text after the names of its configurations."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{', '.join(having)}: {text}" for text, having in names.items())


def _in_order(entries: Iterable[Mapping[str, Entry]]) -> list[str]:
    """Return the keys of all configurations; a new key follows its predecessor in its section."""
    order: list[str] = []
    for keys in entries:
        place = 0
        for key in keys:
            if key in order:
                place = order.index(key) + 1
            else:
                order.insert(place, key)
                place += 1
    return order


if __name__ == "__main__":
    TARGET.write_text(configuration_reference(), encoding="utf-8")
