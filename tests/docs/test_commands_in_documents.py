"""Commands in the documents name configurations that exist and keys that are allowed."""

import re
import shlex

import pytest

from tests.conftest import CONFIGS, ROOT
from tests.docs.test_links import DOCUMENTS
from utils.config import load_config

SCRIPTS = {
    "sslearn.py": ("ssl", "--config_ssl"),
    "finetune.py": ("finetune", "--config_ft"),
    "reproduce.py": ("reproduce", "--config"),
    "original_implementation/train.py": ("original", "--configs"),
}


def commands_of(text: str) -> list[list[str]]:
    """Return the training commands in code, as lists of arguments; continued lines are joined."""
    fenced = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, re.S)).replace("\\\n", " ")
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    inline = re.findall(r"`(python [^`]+)`", outside)
    lines = [line.strip() for line in fenced.splitlines()] + [" ".join(c.split()) for c in inline]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("python ")]
    return [command[1:] for command in commands if command[1] in SCRIPTS]


COMMANDS = [
    pytest.param(command, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, command in enumerate(commands_of(document.read_text(encoding="utf-8")))
]


def test_commands_are_found():
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_the_configuration_is_there_and_the_keys_are_allowed(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    kind, flag = SCRIPTS[command[0]]
    assert command[1] == flag
    path, rest = command[2], command[3:]
    if "--resume" in rest:
        place = rest.index("--resume")
        rest = rest[:place] + rest[place + 2 :]
    overrides = [argument for argument in rest if argument != "…"]
    if path not in ("FILE",):
        load_config(path, CONFIGS[kind], overrides)
