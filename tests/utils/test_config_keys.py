"""Every key of the schema: misspelt, of a wrong type, out of range, written as 1e-3."""

import difflib
import types
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.conftest import CONFIGS
from tests.utils.conftest import mistakes
from training.grid.grid_config import ReproduceConfig
from utils.config import load_config, parse_yaml
from utils.schema import FinetuneConfig, SSLConfig

ONE_LETTER = "abcdefghijklmnopqrstuvwxyz_"


class Key(NamedTuple):
    """One key: kind of configuration, dotted name, allowed types, limits of numbers."""

    kind: str
    name: str
    types: tuple
    limits: tuple

    @property
    def is_number(self) -> bool:
        return bool({int, float} & set(self.types))


def unwrapped(annotation, limits=()) -> tuple[list, list]:
    """Return the plain types that an annotation allows, and its limits."""
    origin, found, bounds = get_origin(annotation), [], list(limits)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        for part in extra:
            bounds += getattr(part, "metadata", [part])
        return unwrapped(inner, bounds)
    if origin in (Union, types.UnionType):
        for part in get_args(annotation):
            inner, more = unwrapped(part)
            found, bounds = found + inner, bounds + more
        return found, bounds
    return [origin or annotation], [
        bound for bound in bounds if isinstance(bound, (Ge, Gt, Le, Lt))
    ]


def keys_of(kind: str, model: type[BaseModel], prefix: str = "") -> list[Key]:
    keys = []
    for name, field in model.model_fields.items():
        allowed, limits = unwrapped(field.annotation, field.metadata)
        if allowed == [Literal] and get_args(field.annotation) == (1,):
            allowed = ["one"]
        sections = [
            part for part in allowed if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        keys.append(Key(kind, prefix + name, tuple(allowed), tuple(limits)))
        for section in sections:
            keys += keys_of(kind, section, f"{prefix}{name}.")
    return keys


KEYS = [key for kind, model in CONFIGS.items() for key in keys_of(kind, model)]
NAMES = {kind: [key.name for key in KEYS if key.kind == kind] for kind in CONFIGS}
some_key = st.sampled_from(KEYS)


def whole(key: Key, override: str) -> tuple[str, ...]:
    """Return an override, and the other half of LR that it needs to be complete."""
    halves = {
        "exp_params.LR.encoder": "exp_params.LR.clf=1",
        "exp_params.LR.clf": "exp_params.LR.encoder=1",
    }
    return (override, *([halves[key.name]] if key.name in halves else []))


def test_the_schema_is_walked():
    assert len(KEYS) > 150 and {key.kind for key in KEYS} == set(CONFIGS)
    by_name = {(key.kind, key.name): key for key in KEYS}
    assert by_name["ssl", "dataset.batch_size"].types == (int,) and by_name[
        "finetune", "exp_params.LR.clf"
    ].types == (float,)
    limits = by_name["original", "dataset.train_data_ratio"].limits
    assert Gt(0) in limits and Lt(1) in limits
    assert sum(key.is_number for key in KEYS) > 70


def misspellings(name: str) -> st.SearchStrategy[str]:
    """Draw a name with one letter too few, too many, wrong or out of place."""
    places = st.integers(0, len(name) - 1)
    return st.one_of(
        places.map(lambda i: name[:i] + name[i + 1 :]),
        places.map(lambda i: name[:i] + name[i + 1 : i + 2] + name[i] + name[i + 2 :]),
        st.tuples(places, st.sampled_from(ONE_LETTER)).map(
            lambda edit: name[: edit[0]] + edit[1] + name[edit[0] :]
        ),
        st.tuples(places, st.sampled_from(ONE_LETTER)).map(
            lambda edit: name[: edit[0]] + edit[1] + name[edit[0] + 1 :]
        ),
        st.just(name.swapcase()),
    )


@settings(max_examples=400, deadline=None)
@given(key=some_key, data=st.data())
def test_a_misspelt_key_is_named_with_the_nearest_one(empty, key, data):
    section, _, name = key.name.rpartition(".")
    siblings = [
        known.rpartition(".")[2] for known in NAMES[key.kind] if known.rpartition(".")[0] == section
    ]
    wrong = data.draw(misspellings(name))
    if wrong in siblings or not wrong:
        return
    dotted = f"{section}.{wrong}" if section else wrong
    complete = (
        ["exp_params.LR.encoder=1", "exp_params.LR.clf=1"] if section == "exp_params.LR" else []
    )
    line = next(
        line
        for line in mistakes(empty, key.kind, *complete, f"{dotted}=1")
        if line.startswith(f"{dotted}: unknown key")
    )
    if len(name) < 4:  # one letter of three says little
        return
    assert "did you mean" in line, line
    suggested = line.rpartition("did you mean ")[2].removesuffix("?").rpartition(".")[2]

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, other.lower(), wrong.lower()).ratio()

    assert suggested in siblings and likeness(suggested) >= likeness(name), (wrong, suggested)


WRONG = {
    int: ["abc", "1.5", "[1]", "{a: 1}", "true", "2020-01-01", ".nan", ".inf", "1e-3"],
    float: ["abc", "[1]", "true", "2020-01-01", ".nan", "-.inf", "1e999"],
    bool: ["1", "0", "'true'", "[true]", "{a: 1}", "1.0", "maybe"],
    str: ["[a]", "{a: b}"],  # whatever else is typed is text
    tuple: ["1", "abc", "{a: 1}", "true", "[[[1]]]", "[{a: 1}]"],
    Literal: ["nonsense", "1", "[a]", "{a: 1}", "true", "''"],
    dict: ["1", "[a]", "abc", "{x: 1}", "{0.5: 1}"],
    "one": ["2", "abc", "[1]"],
}
TEXTS = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8).map(
    lambda text: f"'no-{text}'"
)


@settings(max_examples=600, deadline=None)
@given(key=some_key, data=st.data())
def test_a_wrong_type_is_refused_by_dotted_key(empty, key, data):
    is_section = any(isinstance(part, type) and issubclass(part, BaseModel) for part in key.types)
    plain = next((part for part in key.types if part in WRONG), None)
    values = ["1x", "[1]", "abc", "-3"] if is_section else WRONG[plain]
    strategy = st.sampled_from(values)
    if plain in (int, float, bool, Literal):
        strategy = strategy | TEXTS
    if type(None) not in key.types and not is_section:
        strategy = strategy | st.just("null")
    override = f"{key.name}={data.draw(strategy)}"
    found = mistakes(empty, key.kind, *whole(key, override))
    assert any(line.startswith((f"{key.name}: ", f"{key.name}.")) for line in found), (
        override,
        found,
    )


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from([key for key in KEYS if key.is_number and key.limits]), data=st.data())
def test_a_value_out_of_range_is_refused_by_dotted_key(empty, key, data):
    limit = data.draw(st.sampled_from(key.limits))
    beyond = data.draw(st.integers(0, 10**6))
    match limit:
        case Ge():
            wrong = limit.ge - 1 - beyond
        case Gt():
            wrong = limit.gt - beyond
        case Le():
            wrong = limit.le + 1 + beyond
        case Lt():
            wrong = limit.lt + beyond
    found = mistakes(empty, key.kind, *whole(key, f"{key.name}={int(wrong)}"))
    assert any(line.startswith(f"{key.name}: ") for line in found), (key.name, wrong, found)


@pytest.mark.parametrize(
    ("kind", "override"),
    [
        ("ssl", "trainer_params.gpus=[-1]"),
        ("reproduce", "gpus=[0, -1]"),
        ("reproduce", "seeds=[-1]"),
        ("reproduce", "seeds=[]"),
        ("reproduce", "seeds=[4294967296]"),
        ("reproduce", "label_fractions=[0]"),
        ("reproduce", "label_fractions=[0.5, 1]"),
        ("reproduce", "methods=[]"),
        ("reproduce", "label_fractions=[.nan]"),
        ("finetune", "trainer_params.gpus=[4294967296]"),
        ("reproduce", "overrides.label_fractions={2: []}"),
        ("finetune", "run_name=" + "x" * 101),
        ("finetune", "run_name='a\n'"),
        ("finetune", "dataset.root=''"),
        ("finetune", 'dataset.root="a\\0b"'),
        ("finetune", 'load_encoder.ckpt_fname="a\\0b"'),
        ("reproduce", 'config_ssl="\\0"'),
    ],
)
def test_members_of_lists_and_texts_out_of_range_are_refused(empty, kind, override):
    found = mistakes(empty, kind, override)
    assert found[0].startswith(override.split("=")[0]), found


def value_of(key: Key, text: str) -> float:
    """Return what the schema makes of one key given as this text, whatever other keys say."""
    value = parse_yaml(text)
    halves = {"encoder": 1, "clf": 1} if key.name.startswith("exp_params.LR.") else {}
    *sections, last = key.name.split(".")
    tree = halves | {last: value}
    for section in reversed(sections):
        tree = {section: tree}
    found = CONFIGS[key.kind].model_validate(tree)
    for part in key.name.split("."):
        found = getattr(found, part)
    return found


def accepts(key: Key, text: str) -> bool:
    try:
        return value_of(key, text) == float(text)
    except ValidationError:
        return False


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key.is_number], ids=lambda key: f"{key.kind}-{key.name}"
)
def test_numbers_may_be_written_with_an_exponent(key):
    number = float(next(text for text in ("300", "0.5", "5", "60", "2") if accepts(key, text)))
    for text in (
        f"{int(number * 1000)}e-3",
        f"{number / 100:g}e2",
        f"{number / 100:g}E+2",
        f"{number * 10:.1f}e-1",
    ):
        value = value_of(key, text)
        assert value == pytest.approx(number, rel=1e-12) and isinstance(value, (int, float)), text


def test_the_paper_s_rate_may_be_written_as_everywhere(empty):
    assert (
        load_config(
            empty, SSLConfig, ["exp_params.LR=1e-3", "dataset.batch_size=1.28e2"]
        ).exp_params.LR
        == 0.001
    )


def test_lists_of_numbers_may_hold_exponents(empty):
    config = load_config(
        empty, ReproduceConfig, ["seeds=[1e1, 2e0]", "label_fractions=[5e-2, 8e-1]", "gpus=[1e0]"]
    )
    assert (config.seeds, config.label_fractions, config.gpus) == ((10, 2), (0.05, 0.8), (1,))


@given(value=st.integers(10**400, 10**401))
@settings(max_examples=5, deadline=None)
def test_numbers_beyond_all_bounds_are_refused(empty, value):
    for key in KEYS:
        if key.is_number:
            found = mistakes(empty, key.kind, *whole(key, f"{key.name}={value}"))
            assert any(line.startswith(f"{key.name}: ") and len(line) < 400 for line in found), (
                key.name
            )


def test_defaults_of_aknes_are_not_those_of_other_networks():
    """Explicit values win."""
    keys = ("sampling_freq", "pre_trigger_s", "amplitude")

    def values(dataset: dict) -> tuple:
        section = FinetuneConfig(dataset=dataset).dataset
        return tuple(getattr(section, key) for key in keys)

    for source in ("aknes", "simulated"):
        assert values({"source": source}) == values({}) == (1000, 3, "counts")
    own = {"source": "folder", "root": "a"}
    assert values(own) == (None, None, "auto")
    assert values(own | {"sampling_freq": 50, "amplitude": "counts"}) == (50, None, "counts")
