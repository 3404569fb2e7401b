"""Read YAML configurations into pydantic models; check all keys and values before reading data."""

import difflib
from collections.abc import Hashable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from utils.errors import UserError

MAX_SHOWN = 20  # mistakes in one message
TAG = "tag:yaml.org,2002:"
# what YAML makes of 5, of 1.5, of NO (false, not Norway), of 2024-01-01
NUMBERS = tuple(TAG + name for name in ("int", "float", "bool", "timestamp"))
NUMBERS_AND_NULL = (*NUMBERS, TAG + "null")


class RemovedKey(NamedTuple):
    """A key of earlier versions: the value with which it did nothing, and why it is gone."""

    unused: object
    reason: str


class Section(BaseModel):
    """A section of a configuration; unknown keys are errors.

    ``removed`` keys are accepted with the value that did nothing: configurations that an earlier
    version has written name all keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    removed: ClassVar[dict[str, RemovedKey]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_removed(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        unused = {name for name, key in cls.removed.items() if values.get(name) == key.unused}
        return {name: value for name, value in values.items() if name not in unused}

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        return []

    def without_meaning(self, section: str, keys: Sequence[str], why: str) -> list[str]:
        """Return a message for each of these keys that was set but has no effect."""
        return [
            f"{section}.{key}: found {getattr(self, key)}; it has no meaning here: {why}"
            for key in keys
            if key in self.model_fields_set
            and getattr(self, key) != type(self).model_fields[key].default
        ]


Config = TypeVar("Config", bound=Section)


class ConfigError(UserError):
    """Mistakes in a configuration, one line each, with the dotted key."""


def load_config(path: str | Path, model: type[Config], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file as an instance of ``model``, with ``key.path=value`` overrides.

    A file with ``base: other.yaml`` (a path relative to the file) holds only the differences from
    that file. Raises ``ConfigError`` with one line per mistake: dotted key, value, allowed values.
    """
    tree = _read_tree(Path(path), model)
    for override in overrides:
        _override(tree, override, model)
    return build_config(tree, model, str(path))


def build_config(tree: dict[str, Any], model: type[Config], place: str) -> Config:
    """Check a tree of keys and values and return it as an instance of ``model``.

    ``place`` says in messages where the values come from. Raises ``ConfigError`` like
    ``load_config``.
    """
    try:
        config = model.model_validate(tree)
        mistakes = config.contradictions()
    except ValidationError as error:
        mistakes = [
            _describe(model, mistake) for mistake in error.errors() if not _other_branch(mistake)
        ]
    if mistakes:
        n_more = len(mistakes) - MAX_SHOWN
        lines = mistakes[:MAX_SHOWN] + [f"… and {n_more} more"] * (n_more > 0)
        raise ConfigError(
            f"{place}: {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}\n  " + "\n  ".join(lines)
        )
    return config


def _read_tree(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """Read a file and merge it with its ``base``, the base of that file, and so on."""
    tree, files = _read_mapping(path, model), [path]
    while "base" in tree:
        asking, base = files[-1], tree.pop("base")
        if not isinstance(base, str) or not base.strip() or "\0" in base:
            found = _short(repr(base))
            raise ConfigError(f"{asking}: base: found {found}; should be the path of a YAML file")
        file = asking.parent / base
        try:
            below = _read_mapping(file, model)
        except ConfigError as error:
            raise ConfigError(f"{asking}: base: {error}") from error
        files.append(file)
        if any(file.samefile(other) for other in files[:-1]):
            raise ConfigError(f"{path}: base leads in a circle: {' -> '.join(map(str, files))}")
        tree = _merge(below, tree)
    return tree


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two mappings, section by section; values of ``above`` win over those of ``below``."""
    both = dict(below)
    for key, value in above.items():
        sections = isinstance(value, dict) and isinstance(below.get(key), dict)
        both[key] = _merge(below[key], value) if sections else value
    return both


def _read_mapping(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    try:
        tree = read_yaml(path, model)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except YamlError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if tree is None:
        raise ConfigError(f"{path}: is empty; for a configuration of defaults only, write {{}}")
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: should be a mapping of keys to values, found a {type(tree).__name__}"
        )
    return tree


def _override(tree: dict[str, Any], override: str, model: type[BaseModel]) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"{_short(override)}: not an override; "
            "write key.path=value, for example dataset.batch_size=32"
        )
    *parents, last = key.split(".")
    schema: Any = model
    for part in (*parents, last):
        schema = _schema_of_key(schema, part)
    for parent in parents:
        # a copy: another key may share this section by a YAML alias
        tree[parent] = dict(tree[parent]) if isinstance(tree.get(parent), dict) else {}
        tree = tree[parent]
    try:
        tree[last] = parse_yaml(value, schema)
    except YamlError as error:
        raise ConfigError(f"{_short(override)}: the value is not valid YAML: {error}") from error


def _other_branch(mistake: ErrorDetails) -> bool:
    """Return whether an error concerns the form of LR (number or mapping) that was not used."""
    place = [str(part) for part in mistake["loc"]]
    if "LR" not in place or len(place) == place.index("LR") + 1:
        return False
    of_mapping = place[place.index("LR") + 1] == "LearningRates"
    return mistake["type"] == "model_type" if of_mapping else isinstance(mistake["input"], dict)


def _describe(model: type[BaseModel], mistake: ErrorDetails) -> str:
    """Return one pydantic error as text: dotted key, value, allowed values."""
    keys = _known_keys(model)
    parts = [str(part) for part in mistake["loc"] if part != "LearningRates"]
    while ".".join(parts) not in keys and len(parts) > 1 and mistake["type"] != "extra_forbidden":
        parts.pop()  # pydantic adds the list index and the union member
    key = ".".join(parts)
    if mistake["type"] == "extra_forbidden":
        removed = removed_keys(model).get(key)
        return f"{key}: removed: {removed.reason}" if removed else _unknown_key(key, keys)
    if mistake["type"] == "missing":
        return f"{'.'.join(map(str, mistake['loc'][:2]))}: {mistake['loc'][-1]} is missing"
    allowed = mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key}: found {_short(repr(mistake['input']))}; {allowed}"


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
    """Return the dotted keys of a model and its sections."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for part in (field.annotation, *get_args(field.annotation)):  # also members of a union
            if _is_section(part):
                keys += _known_keys(part, f"{prefix}{name}.")
    return keys


def removed_keys(model: type[BaseModel], prefix: str = "") -> dict[str, RemovedKey]:
    """Return the removed keys of a model and its sections, by dotted key."""
    found = {prefix + name: key for name, key in getattr(model, "removed", {}).items()}
    for name, field in model.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if _is_section(part):
                found |= removed_keys(part, f"{prefix}{name}.")
    return found


class YamlError(ValueError):
    """Text that is not valid YAML; the message says why and in which line."""


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses a key given twice; PyYAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark
                )
            seen.append(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, schema: Any = None) -> Any:
    """Read a YAML file in UTF-8; ``schema`` as in ``parse_yaml``.

    Raises ``YamlError`` for a file that is not valid, ``OSError`` for one that cannot be read.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), schema)
    except UnicodeDecodeError as error:
        raise YamlError(f"not text in UTF-8 ({error.reason} at byte {error.start})") from error


def parse_yaml(text: str, schema: Any = None) -> Any:
    """Parse YAML text into dicts, lists and scalars.

    ``schema`` is a section or the type of a key. Where it has text, whatever was typed is text: a
    class ``007``, a network ``NO``. The value ``null`` of a key is None; in lists and mappings of
    text it is text, too, because a member cannot be left unset. Raises ``YamlError`` for text that
    is not valid YAML.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return None if root is None else loader.construct_document(_as_typed(root, schema))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(f"line {line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date like 2001-13-45
        raise YamlError(" ".join(str(error).split())) from error


def _as_typed(node: yaml.Node, schema: Any, tags: Sequence[str] = NUMBERS) -> yaml.Node:
    """Return the node with text for scalars of these ``tags`` where the schema has text.

    New nodes are made: another key may share this one by a YAML alias.
    """
    place = node.start_mark, node.end_mark
    for kind in _alternatives(schema):
        if isinstance(node, yaml.ScalarNode) and kind is str and node.tag in tags and node.value:
            return yaml.ScalarNode(f"{TAG}str", node.value, *place)
        if isinstance(node, yaml.SequenceNode) and get_origin(kind) is tuple:
            member = get_args(kind)[0]
            items = [_as_typed(item, member, NUMBERS_AND_NULL) for item in node.value]
            return yaml.SequenceNode(node.tag, items, *place)
        if isinstance(node, yaml.MappingNode) and (get_origin(kind) is dict or _is_section(kind)):
            pairs = [_typed_pair(key, value, kind) for key, value in node.value]
            return yaml.MappingNode(node.tag, pairs, *place)
    return node


def _typed_pair(key: yaml.Node, value: yaml.Node, kind: Any) -> tuple[yaml.Node, yaml.Node]:
    """Return a key and its value, of a section or a mapping, as ``_as_typed``."""
    if key.tag == f"{TAG}merge":  # <<: *other
        return key, _as_typed(value, kind)
    if _is_section(kind):
        return key, _as_typed(value, _schema_of_key(kind, key.value))
    of_keys, of_values = get_args(kind)
    return _as_typed(key, of_keys, NUMBERS_AND_NULL), _as_typed(value, of_values, NUMBERS_AND_NULL)


def _schema_of_key(schema: Any, key: object) -> Any:
    """Return the type of a key of a section, or of the values of a mapping; None: not known."""
    for kind in _alternatives(schema):
        if get_origin(kind) is dict:
            return get_args(kind)[1]
        if _is_section(kind) and isinstance(key, str) and key in kind.model_fields:
            return kind.model_fields[key].annotation
    return None


def _alternatives(schema: Any) -> list[Any]:
    """Return the types that a schema allows, without their limits."""
    if get_origin(schema) is Annotated:
        return _alternatives(get_args(schema)[0])
    if get_origin(schema) in (Union, UnionType):
        return [kind for part in get_args(schema) for kind in _alternatives(part)]
    return [schema]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
