"""Errors that are the caller's to mend. The command line prints them without a traceback and exits with 2."""


class TextlensError(Exception):
    """Base of every error that textlens raises on purpose: says what was got, what was expected, and the fix."""


class InputError(TextlensError, ValueError):
    """An argument, a file or a setting cannot be used as it is."""
