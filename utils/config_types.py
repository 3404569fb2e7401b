"""Types of configuration values: numbers with limits, names, paths.

A string in ``Annotated`` describes the allowed values in docs/configuration.md.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from utils.names import ENCODER_SIZES

WHOLE_NUMBERS_END = 2**32


def key(default: Any, meaning: str) -> Any:
    """Define a configuration key: its default, and its meaning for docs/configuration.md."""
    return Field(default, description=meaning)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _whole(value: Any) -> Any:
    """Accept whole numbers written as text, such as 1e3."""
    try:
        return float(value) if isinstance(_no_bool(value), str) and not value.isdecimal() else value
    except ValueError:
        raise ValueError("should be a whole number") from None


def _expression(value: str) -> str:
    """Accept a regular expression with at most one pair of parentheses."""
    try:
        n_groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"should be a regular expression ({error})") from None
    if n_groups > 1:
        raise ValueError("should have one pair of parentheses at most; (?:…) is not counted")
    return value


# PyYAML reads 1e-3 as a string; pydantic makes it a number.
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(lt=WHOLE_NUMBERS_END), BeforeValidator(_whole)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[Integer, Field(ge=1)]
Period = Annotated[Integer, Field(ge=-1)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Index = Annotated[Integer, Field(ge=0)]
Seed = Index
Seconds = Annotated[Number, Field(le=86400)]  # a day
FilePath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$"), "path"]
Name = Annotated[
    str,
    Field(pattern=r"^\w[\w.+-]*$", max_length=100),
    "at most 100 letters, digits, `_`, `.`, `+`, `-`",
]
ColumnName = Annotated[str, Field(min_length=1), "name of a column"]
Pattern = Annotated[str, AfterValidator(_expression), "regular expression"]
ClassName = Annotated[str, "name of a class"]
Override = Annotated[str, "`key.path=value`"]
EncoderName = Literal[*ENCODER_SIZES]  # type: ignore[valid-type]  # names stand in one place only
StemStride = Annotated[Integer, Field(ge=1, le=2)]
