"""What a follower remembers between two starts; the events themselves are in the table."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from utils.errors import UserError
from utils.files import write_atomically


@dataclass
class FollowState:
    """Up to when an archive has been searched, and what is left to do.

    ``until_ns``: every trigger before it is decided; None before the first search. ``n_announced``:
    rows of the table whose command has been run. ``late``: spans in ns, before ``until_ns``, with
    late data that are to be searched once more. ``sizes``: how many bytes of each file were
    indexed; None: no file was looked at yet.
    """

    until_ns: int | None = None
    n_announced: int = 0
    late: list[tuple[int, int]] = field(default_factory=list)
    sizes: dict[str, int] | None = None

    def text(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))


def save_state(path: Path, text: str) -> None:
    """Write ``FollowState.text`` in one step."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def load_state(path: Path) -> FollowState:
    """Read a state; a new one if there is none. Raises ``UserError`` for a damaged file."""
    if not path.exists():
        return FollowState()
    try:
        state = FollowState(**json.loads(path.read_text(encoding="utf-8")))
        state.late = [(int(start), int(end)) for start, end in state.late]
        return state
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be understood ({error}); remove it, and begin again by --from"
        ) from error


def state_path(table: Path) -> Path:
    """Return where the state of the follower that writes ``table`` is kept."""
    return table.with_name(f".{table.name}.follow.json")
