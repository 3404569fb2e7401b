"""YAML in, typed models out: every key is known, every value checked, before any data is touched."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from utils.errors import UserError
from utils.plain_yaml import YamlError, parse_yaml, read_yaml
from utils.schema import FinetuneConfig, OriginalConfig, RunConfig, SSLConfig
from utils.schema_grid import ReproduceConfig
from utils.schema_predict import PredictConfig

__all__ = [
    "ConfigError",
    "FinetuneConfig",
    "OriginalConfig",
    "PredictConfig",
    "ReproduceConfig",
    "RunConfig",
    "SSLConfig",
    "load_config",
]

MAX_SHOWN = 20  # mistakes


KINDS: dict[str, type[RunConfig | ReproduceConfig | PredictConfig]] = {
    "ssl": SSLConfig,
    "finetune": FinetuneConfig,
    "original": OriginalConfig,
    "reproduce": ReproduceConfig,
    "predict": PredictConfig,
}


class ConfigError(UserError):
    """List the mistakes of a configuration, one line each, by dotted key."""


def load_config(path: str | Path, kind: str, overrides: Sequence[str] = ()) -> RunConfig | ReproduceConfig | PredictConfig:
    """Read a YAML file as a configuration of ``kind`` (ssl, finetune, original, reproduce, predict), with ``key.path=value`` overrides.

    Raises ``ConfigError`` with one line per mistake.
    """
    tree = _read_tree(Path(path))
    for override in overrides:
        _override(tree, override)
    try:
        config = KINDS[kind].model_validate(tree)
        mistakes = config.contradictions()
    except ValidationError as error:
        mistakes = [_describe(KINDS[kind], mistake) for mistake in error.errors() if not _other_branch(mistake)]
    if mistakes:
        lines = [_short(mistake, 600) for mistake in mistakes[:MAX_SHOWN]]
        lines += [f"… and {len(mistakes) - MAX_SHOWN} more"] * (len(mistakes) > MAX_SHOWN)
        raise ConfigError(f"{path}: {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}\n  " + "\n  ".join(lines))
    return config


def _read_tree(path: Path) -> dict:
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except YamlError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if tree is None:
        raise ConfigError(f"{path}: is empty; for a configuration of defaults only, write {{}}")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: should be a mapping of keys to values, found a {type(tree).__name__}")
    return tree


def _override(tree: dict, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{_short(override)}: not an override; write key.path=value, for example dataset.batch_size=32")
    *parents, last = key.split(".")
    for parent in parents:
        # a copy: by an alias, another key may name the same section
        tree[parent] = dict(tree[parent]) if isinstance(tree.get(parent), dict) else {}
        tree = tree[parent]
    try:
        tree[last] = parse_yaml(value, last)
    except YamlError as error:
        raise ConfigError(f"{_short(override)}: the value is not valid YAML: {error}") from error


def _other_branch(mistake: dict) -> bool:
    """Tell whether an error of LR, a number or {encoder, clf}, concerns the form that was not used."""
    place = [str(part) for part in mistake["loc"]]
    if "LR" not in place or len(place) == place.index("LR") + 1:
        return False
    of_mapping = place[place.index("LR") + 1] == "LearningRates"
    return mistake["type"] == "model_type" if of_mapping else isinstance(mistake["input"], dict)


def _describe(model: type[BaseModel], mistake: dict) -> str:
    """Put one pydantic error into words: dotted key, what was found, what is allowed."""
    keys = _known_keys(model)
    parts = [str(part) for part in mistake["loc"] if part != "LearningRates"]
    while ".".join(parts) not in keys and len(parts) > 1 and mistake["type"] != "extra_forbidden":
        parts.pop()  # pydantic also names the member of a list and the form of a union
    key = ".".join(parts)
    if mistake["type"] == "extra_forbidden":
        return _unknown_key(key, keys)
    if mistake["type"] == "missing":
        return f"{'.'.join(map(str, mistake['loc'][:2]))}: {mistake['loc'][-1]} is missing"
    allowed = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key}: found {_repr(mistake['input'])}; {allowed}"


def _repr(value: Any) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python writes no integers of thousands of digits
        return "a very large number"


def _short(text: str, n: int = 100) -> str:
    return text if len(text) <= n else text[:n] + " …"


def _unknown_key(key: str, keys: list[str]) -> str:
    section, _, name = key.rpartition(".")
    siblings = [known.rpartition(".")[2] for known in keys if known.rpartition(".")[0] == section]
    folded = {sibling.lower(): sibling for sibling in siblings}
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, 1)]
    elsewhere = [known for known in keys if known.rpartition(".")[2] == name]
    if near:
        return f"{key}: unknown key; did you mean {section + '.' * bool(section)}{near[0]}?"
    if elsewhere:
        return f"{key}: unknown key; did you mean {elsewhere[0]}?"
    return f"{key}: unknown key; known here: {', '.join(siblings) or 'none'}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List the dotted keys of a model and its sections."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for part in (field.annotation, *get_args(field.annotation)):  # the members of a union are models, too
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys += _known_keys(part, f"{prefix}{name}.")
    return keys
