"""What every command shares: logging to the console, `--version`, and faults told in lines instead of tracebacks."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from lnauto import __version__
from lnauto.errors import LnautoError

STOPPED_BY_KEYBOARD = 130


def make_parser(description: str, **options: object) -> argparse.ArgumentParser:
    """A parser with the flags that every command has."""
    parser = argparse.ArgumentParser(description=description, **options)  # type: ignore[arg-type]
    parser.add_argument("--quiet", action="store_true", help="say only what went wrong")
    parser.add_argument("--version", action="version", version=f"lnauto {__version__}")
    return parser


def run(parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], None], argv: Sequence[str] | None) -> int:
    """Parse, act, and return the exit code."""
    arguments = parser.parse_args(argv)
    talk_to_console(quiet=arguments.quiet)
    try:
        action(arguments)
    except LnautoError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("lnauto: stopped from the keyboard; what is finished stays, the same command goes on from there\n")
        return STOPPED_BY_KEYBOARD
    return 0


def talk_to_console(quiet: bool = False) -> None:
    """Send lnauto's log to the console as plain sentences."""
    log = logging.getLogger("lnauto")
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
