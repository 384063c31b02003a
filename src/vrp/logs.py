"""What a command says on stderr while it works: the package's loggers, as plain lines."""

import logging
import sys


def configure_logging() -> None:
    """Print what the package logs on stderr, the message alone. Calling it again changes nothing.

    Without it, as in a program that imports the package, warnings alone are printed.
    """
    logger = logging.getLogger("vrp")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())


class _StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message as a line."""
        print(self.format(record), file=sys.stderr)
