"""Read YAML as plain data: no code, no bombs, no key given twice."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_CHARACTERS = 2**16  # the shipped files have up to 3000
MAX_VALUES = 10_000  # after aliases have been replaced by what they stand for
NOT_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set")}
NUMBERS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "timestamp")}
TEXT_KEYS = {"run_name", "name", "root"}  # their values are names, also where YAML sees a number or a date


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
