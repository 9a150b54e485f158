"""The exceptions for what a person can put right."""


class UserError(Exception):
    """Bad input or usage, told in one clear line: what was wrong, where, and what to do.

    The command line prints the message without a traceback and leaves with exit code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Unreachable(UserError):
    """Something on the network is not there, gone or silent; it may come back, so that asking again makes sense."""
