"""What every command shares: logging to the console, `--version`, and faults told in lines instead of tracebacks."""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lnauto import __version__
from lnauto.allowance import granted_cores
from lnauto.errors import InputError, LnautoError

STOPPED_BY_KEYBOARD = 130
LARGEST_SEED = 2**32 - 1  # that NumPy takes
FAULTS = "lnauto-faults"  # a logger apart, because the console has them from stderr
FIRST_OF_LOG = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO lnauto ")

atexit.register(gc.freeze)  # searching all that torch and its like leave for what could be freed took half a second at each end


class Parser(argparse.ArgumentParser):
    """Tells a wrong flag as every fault is told, in a line, rather than beneath all flags there are."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            InputError.exit_code, f"{InputError.of(message, 'the command line', 'correct it; --help tells of every flag')}\n"
        )


def make_parser(description: str, **options: object) -> argparse.ArgumentParser:
    """A parser with the flags that every command has."""
    parser = Parser(description=description, **options)  # type: ignore[arg-type]
    parser.add_argument("--quiet", action="store_true", help="say only what went wrong")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write what is said to a file, too, with the time")
    parser.add_argument("--version", action="version", version=f"lnauto {__version__}")
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="where to compute (default: the best there is)")


def at_least(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number from `least` on, to `most` if there is one; for argparse."""

    def whole(text: str) -> int:
        is_whole = re.fullmatch(r"-?[0-9]+", text) is not None
        if not is_whole or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}{f' to {most}' if most else ''}")
        return int(text)

    return whole


def positive(text: str) -> float:
    """A number above 0; for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def share(text: str) -> float:
    """A share above 0, at most 1; for argparse."""
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0, at most 1")
    return value


def minutes(text: str) -> float:
    """A time such as `30min`, `2h` or `90s`, in minutes; for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|min|m|h)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write it like 30min, 2h or 90s")
    return float(match[1]) * {"s": 1 / 60, "sec": 1 / 60, "h": 60}.get(match[2], 1)


def run(parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], None], argv: Sequence[str] | None) -> int:
    """Parse, act, and return the exit code."""
    arguments = parser.parse_args(argv)
    share_cores()
    talk_to_console(quiet=arguments.quiet)
    try:
        if arguments.log is not None:
            write_log(arguments.log)
        action(arguments)
    except LnautoError as error:
        return _tell(error)
    except BrokenPipeError:  # whoever read the output (`| head`) has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:  # what is meant is not known, so it is a fault of the program
            raise
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        what = "there is a file where a folder belongs" if in_the_way else error.strerror or str(error)
        remedy = "name another place" if in_the_way else "see whether it may be read and written, and whether there is room"
        return _tell(InputError.of(what, error.filename, remedy))
    except KeyboardInterrupt:
        sys.stderr.write(
            "lnauto: stopped from the keyboard; what is finished stays, run it again to go on (training: --continue)\n"
        )
        return STOPPED_BY_KEYBOARD
    return 0


def _tell(error: LnautoError) -> int:
    """Say it on the console and in the log; returns the exit code."""
    sys.stderr.write(f"{error}\n")
    logging.getLogger(FAULTS).error("%s", error)
    return error.exit_code


def share_cores() -> None:
    """Let threads that wait for each other sleep instead of spinning, and be no more than a container is given cores; it counts
    only before torch is imported.

    When something else runs on the machine, spinning threads keep the one they wait for from its core: a training step on two
    cores took 4.6 s instead of 0.6 s beside one other busy process (documentation/benchmarks.md).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if (granted := granted_cores()) is not None:  # PyTorch would start a thread for each core of the machine
        os.environ.setdefault("OMP_NUM_THREADS", str(granted))


def talk_to_console(quiet: bool = False) -> None:
    """Send lnauto's log to the console as plain sentences."""
    log = logging.getLogger("lnauto")
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    faults = logging.getLogger(FAULTS)
    faults.propagate, faults.handlers = False, [logging.NullHandler()]


def _may_be_log(path: Path) -> bool:
    """Whether nothing is there yet, a device, or a log that lnauto began."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        return FIRST_OF_LOG.match(file.read(100)) is not None


class LogFile(logging.FileHandler):
    """A log that says once that its disk is full, in place of a traceback for every line."""

    def begin(self) -> None:
        """A first line: a place where none can be written is known before any work."""
        made_by = logging.LogRecord("lnauto", logging.INFO, __file__, 0, f"lnauto {__version__}", (), None)
        with Path(self.baseFilename).open("a", encoding="utf-8") as file:
            file.write(f"{self.format(made_by)}\n")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        for name in ("lnauto", FAULTS):
            logging.getLogger(name).removeHandler(self)
        error = sys.exc_info()[1]
        what = f"the log cannot be written any more ({error})"
        told = InputError.of(what, self.baseFilename, "make room there; the work goes on without it")
        sys.stderr.write(f"{told}\n")


def write_log(path: Path) -> None:
    """Append lnauto's log to a file, with the time, faults and what `--quiet` keeps from the console."""
    if not _may_be_log(path):
        raise InputError.of("the log would be appended to a file that is no log of lnauto's", path, "give another file")
    try:
        handler = LogFile(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handler.begin()
    except OSError as error:
        raise InputError.of(f"the log cannot be written ({error.strerror or error})", path, "give another file") from error
    log = logging.getLogger("lnauto")
    for console in log.handlers:
        console.setLevel(log.level)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    logging.getLogger(FAULTS).addHandler(handler)
