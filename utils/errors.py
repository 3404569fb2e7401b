"""Exceptions that entry scripts print without a traceback."""


class UserError(ValueError):
    """A mistake in the user's input (file, key, value), never a bug of this program."""


class Interrupted(BaseException):
    """A run was stopped by a signal; the message says how to resume it.

    ``status`` is the exit status of the process. As KeyboardInterrupt, this is a BaseException, so
    that ``except Exception``, which catches errors in damaged data, does not catch it.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status
