"""The one error that users are meant to see."""


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one line: what is wrong, where (file, row, key) and how to mend it.
    The command line prints it without a traceback and exits with status 2.
    """
