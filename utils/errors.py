"""Exceptions that entry scripts print without a traceback."""


class UserError(ValueError):
    """A mistake in the user's input (file, key, value), never a bug of this program."""


class Interrupted(BaseException):
    """A run was stopped by a signal; the message says how to resume it.

    No Exception, like KeyboardInterrupt: code that goes on after damaged data must not catch it.

    ``status`` is the exit status of the process.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status
