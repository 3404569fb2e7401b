"""The one exception family that entry scripts print without a traceback."""


class UserError(ValueError):
    """Report a mistake in what the user gave (a file, a key, a value), never one in this program."""
