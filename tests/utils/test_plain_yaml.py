import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from training.grid import ReproduceConfig
from utils.config import ConfigError, YamlError, load_config, parse_yaml
from utils.schema import FinetuneConfig, SSLConfig


def laughs(n: int, link: str = "[{}]") -> str:
    """Write n anchors, each naming the one before it ten times."""
    lines = ["a0: &a0 [x, x]" if link == "[{}]" else "a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} " + link.format(", ".join([f"*a{i - 1}"] * 10)) for i in range(1, n)]
    return "\n".join([*lines, f"seed: *a{n - 1}"])


BOMBS = {
    "laughs": laughs(12).encode(),
    "merges": laughs(8, "{{<<: [{}]}}").encode(),
    "anchor in itself": b"seed: &a [*a]",
    "section in itself": b"dataset: &a {x: *a}",
    "flow lists": b"seed: " + b"[" * 60_000,
    "flow mappings": b"seed: " + b"{a: " * 15_000,
    "block lists": b"- " * 30_000,
    "question marks": b"? " * 30_000,
    "closed lists": b"seed: " + b"[" * 900 + b"]" * 900,
    "digits": b"seed: " + b"9" * 20_000,
    "hexadecimal digits": b"seed: 0x" + b"f" * 20_000,
    "keys": b"".join(b"k%d: 1\n" % i for i in range(6000)),
    "same key": b"k: 1\n" * 10_000,
    "anchors": b"".join(b"k%d: &a%d x\n" % (i, i) for i in range(3000)),
    "megabytes": b"# \n" * 10**6,
    "a long line": b"seed: '" + b"x" * 60_000 + b"'",
    "quote without end": b'seed: "' + b"x" * 60_000,
    "tag": b"seed: !" + b"a" * 60_000 + b" x",
    "empty": b"",
    "comment": b"# nothing else\n",
    "list": b"- seed\n",
    "number": b"3",
    "Latin-1": "run_name: é\n".encode("latin-1"),
    "UTF-16": "run_name: a\n".encode("utf-16"),
    "zeros": bytes(1000),
    "binary": random.Random(0).randbytes(5000),
    "tabs": b"\tseed: 1",
    "two documents": b"seed: 1\n---\nseed: 2",
    "undefined alias": b"seed: *nowhere",
    "null key": b"null: 1",
    "number as key": b"1: 2",
    "list as key": b"? [a]\n: 1",
    "mapping as key": b"? {a: 1}\n: 1",
    "date as key": b"2001-01-01: 1",
    "bytes": b"run_name: !!binary aGVsbG8=",
    "set": b"logger: !!set {csv}",
    "ordered mapping": b"dataset: !!omap [source: folder]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_no_configuration_is_refused_soon_and_shortly(tmp_path, name):
    path = tmp_path / "c.yaml"
    path.write_bytes(BOMBS[name])
    started = time.monotonic()
    with pytest.raises(ConfigError, match="c.yaml: ") as error:
        load_config(path, FinetuneConfig)
    assert time.monotonic() - started < 5 and len(str(error.value)) < 15_000


TAGS = [
    "!!python/object/apply:os.system ['touch pwned']",
    "!!python/object/new:os.system ['touch pwned']",
    "!!python/object:subprocess.Popen {args: [touch, pwned]}",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/apply:builtins.exec [\"open('pwned', 'w')\"]",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch pwned']",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("key", ["seed", "dataset", "run_name", "logger"])
def test_no_tag_runs_code(tmp_path, monkeypatch, tag, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(f"{key}: {tag}\n")
    (tmp_path / "good.yaml").write_text("{}\n")
    (tmp_path / "top.yaml").write_text(f"{tag}\n")
    for file, overrides in (("c.yaml", []), ("top.yaml", []), ("good.yaml", [f"{key}={tag}"]), ("good.yaml", [f"{key}=[{tag}]"])):
        with pytest.raises(ConfigError, match="not valid YAML"):
            load_config(tmp_path / file, FinetuneConfig, overrides)
    assert not (tmp_path / "pwned").exists()


def test_aliases_of_reasonable_size_are_allowed_and_not_shared(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("overrides: {ssl: &small [seed=1], linear: *small}\n")
    config = load_config(path, ReproduceConfig, ["overrides.ssl=[seed=2]"])
    assert config.overrides.linear == ("seed=1",) and config.overrides.ssl == ("seed=2",)
    path.write_text("a: &a {x: 1}\nb: *a\n")
    with pytest.raises(ConfigError, match=r"(?s)a: unknown.*b: unknown"):
        load_config(path, ReproduceConfig)


def test_an_override_does_not_reach_another_section_by_an_alias(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("exp_params: &same {out_size_enc: 512}\nmodel_params: *same\n")
    with pytest.raises(ConfigError, match="exp_params.out_size_enc: found 2048") as error:
        load_config(path, SSLConfig, ["exp_params.out_size_enc=2048"])
    assert "model_params.out_size_enc" not in str(error.value)


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, SSLConfig)


def test_shipped_files_are_far_from_the_limits():
    for path in (*(ROOT / "configs").glob("*.yaml"), ROOT / "original_implementation" / "config.yaml"):
        assert path.stat().st_size < 10_000


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8")) | st.text("[]{}:,-?&*!|>'\"%@` \n\ta1", max_size=60))
def test_no_text_raises_anything_else(text):
    try:
        parse_yaml(text)
    except YamlError as error:
        assert len(str(error)) < 400 and "\n" not in str(error)
