"""Why `pip install .` stops: this repository is used from its folder, not installed.

It has packages called ``utils`` and ``models``, which must not stand among a user's installed
packages. pip calls these functions, named in ``pyproject.toml``, before it builds anything.
"""

import sys
from typing import NoReturn

MESSAGE = (
    "aknes-ssl is used from its folder and is not installed: run `make install` there (or "
    "`pip install -r requirements.txt`), then `python predict.py ...`. From Python elsewhere, add "
    "the folder to PYTHONPATH."
)


def get_requires_for_build_wheel(config_settings: dict[str, str] | None = None) -> NoReturn:
    """Stop ``pip install .`` with a sentence for the user."""
    sys.exit(MESSAGE)


get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, str] | None = None,
    metadata_directory: str | None = None,
) -> NoReturn:
    """Stop, as above; pip looks whether the function is there."""
    sys.exit(MESSAGE)


build_editable = build_sdist = build_wheel
