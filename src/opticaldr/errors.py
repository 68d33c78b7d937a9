"""The one error that a user can cause. It stands alone so that `--help` need not import torch."""


class InputError(ValueError):
    """The user's input is wrong; the message says what was expected, what was found, what to do."""
