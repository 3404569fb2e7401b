"""The one exception family that entry scripts print without a traceback."""


class UserError(ValueError):
    """Report a mistake in what the user gave (a file, a key, a value), never one in this program."""


class Interrupted(Exception):
    """Say that a run was stopped from outside, and how to go on; ``status`` is the process's exit status."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status
