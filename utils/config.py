"""YAML in, typed models out: every key is known, every value checked, before any data is touched."""

import difflib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from utils.errors import UserError

MAX_SHOWN = 20  # mistakes
MAX_CHARACTERS = 2**16  # the shipped files have up to 3000
MAX_VALUES = 10_000  # after aliases have been replaced by what they stand for
NOT_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set")}
NUMBERS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "timestamp")}
TEXT_KEYS = {"run_name", "name", "root"}  # their values are names, also where YAML sees a number or a date


class Section(BaseModel):
    """A section of a configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def contradictions(self) -> list[str]:
        """List keys that do not go together, one line each."""
        return []


Config = TypeVar("Config", bound=Section)


class ConfigError(UserError):
    """List the mistakes of a configuration, one line each, by dotted key."""


def load_config(path: str | Path, model: type[Config], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file as a configuration of the class ``model``, with ``key.path=value`` overrides.

    A file with ``base: other.yaml``, a path relative to itself, holds what differs from that file.
    Raises ``ConfigError`` with one line per mistake: the dotted key, what was found, what is allowed.
    """
    tree = _read_tree(Path(path))
    for override in overrides:
        _override(tree, override)
    try:
        config = model.model_validate(tree)
        mistakes = config.contradictions()
    except ValidationError as error:
        mistakes = [_describe(model, mistake) for mistake in error.errors() if not _other_branch(mistake)]
    if mistakes:
        lines = [_short(mistake, 600) for mistake in mistakes[:MAX_SHOWN]]
        lines += [f"… and {len(mistakes) - MAX_SHOWN} more"] * (len(mistakes) > MAX_SHOWN)
        raise ConfigError(f"{path}: {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}\n  " + "\n  ".join(lines))
    return config


def _read_tree(path: Path) -> dict:
    """Read a file, and below it the file that its ``base`` names, and so on."""
    tree, files = _read_mapping(path), [path]
    while "base" in tree:
        asking, base = files[-1], tree.pop("base")
        if not isinstance(base, str) or not base.strip() or "\0" in base:
            found = _repr(base)
            raise ConfigError(f"{asking}: base: found {found}; should be the path of a YAML file")
        file = asking.parent / base
        try:
            below = _read_mapping(file)
        except ConfigError as error:
            raise ConfigError(f"{asking}: base: {error}") from error
        files.append(file)
        if any(file.samefile(other) for other in files[:-1]):
            raise ConfigError(f"{path}: base leads in a circle: {' -> '.join(map(str, files))}")
        tree = _merge(below, tree)
    return tree


def _merge(below: dict, above: dict) -> dict:
    """Return what ``above`` says, and what only ``below`` says; sections are merged key by key."""
    both = dict(below)
    for key, value in above.items():
        sections = isinstance(value, dict) and isinstance(below.get(key), dict)
        both[key] = _merge(below[key], value) if sections else value
    return both


def _read_mapping(path: Path) -> dict:
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


class YamlError(ValueError):
    """Say why a text is not YAML that can be used here."""


class _Loader(yaml.SafeLoader):
    """Refuse keys given twice, which YAML would silently overwrite."""

    yaml_constructors = {tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag not in NOT_PLAIN}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        node.value = [(key, _as_typed(value, key.value)) for key, value in node.value]
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a file; raises ``YamlError`` for what is not small, plain YAML in UTF-8, ``OSError`` for what cannot be read."""
    with open(path, "rb") as file:
        content = file.read(4 * MAX_CHARACTERS + 1)
    try:
        return parse_yaml(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise YamlError(f"not text in UTF-8 ({error.reason} at byte {error.start})") from error


def parse_yaml(text: str, key: str = "") -> Any:
    """Turn YAML, perhaps the value of ``key``, into dicts, lists and scalars.

    Raises ``YamlError`` for what is not valid, not plain, or too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"longer than {MAX_CHARACTERS} characters")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        if _count(root, {}) > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES} values, with its aliases spelled out")
        return loader.construct_document(_as_typed(root, key))
    except RecursionError:
        raise YamlError("nested too deeply") from None
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise YamlError(reason if len(reason) < 300 else reason[:300] + " …") from error


def _as_typed(node: yaml.Node, key: object) -> yaml.Node:
    """Return the value of a key as the text that was typed, if the key takes text: ``run_name: 2024``."""
    if isinstance(key, str) and key in TEXT_KEYS and node.tag in NUMBERS:
        # a new node: by an alias, another key may share this one
        return yaml.ScalarNode("tag:yaml.org,2002:str", node.value, node.start_mark, node.end_mark)
    return node


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count the values of a node, those behind aliases as often as they are named."""
    if id(node) in known:
        if known[id(node)] is None:
            raise YamlError("an anchor that holds itself")
        return known[id(node)]
    known[id(node)] = None
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    n = 1
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            n += _count(part, known)
    known[id(node)] = n
    return n
