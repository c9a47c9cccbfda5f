"""A picture drawn while other work goes on, by a process of its own where that saves time.

Importing Matplotlib and drawing a page are Python's own work, which one process does on one core only. So a process is started
early, imports what it needs, and waits to be told what to draw; the picture comes back through a pipe. Where Matplotlib is there
already, drawing here is quicker.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from lnauto.allowance import usable_cores
from lnauto.files import replacing
from lnauto.report.plan_facts import PlanFacts
from lnauto.report.plan_picture import draw_plan, plan_png

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60  # then it is drawn here
PATIENCE_SECONDS = 10  # with a picture that was begun, before an error is told


class Painter:
    """Draws one picture of a plan, between entering and leaving."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._drawn: Future[None] | None = None
        self._leaving = False

    def __enter__(self) -> Painter:
        if "matplotlib.figure" not in sys.modules and usable_cores() > 1:
            self._process = _started()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._drawn is not None and error is None:
                self._drawn.result()
            elif self._drawn is not None:
                wait([self._drawn], PATIENCE_SECONDS)
        finally:
            self._leaving = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._pool.shutdown()

    def paint(self, facts: PlanFacts, path: Path) -> None:
        """Begin; on leaving, the picture is there."""
        self._drawn = self._pool.submit(self._paint, facts, path)

    def _paint(self, facts: PlanFacts, path: Path) -> None:
        png = None if self._process is None else _told(self._process, facts)
        if png:
            with replacing(path) as temporary:
                temporary.write_bytes(png)
        elif not self._leaving:
            draw_plan(facts, path)


def _started() -> subprocess.Popen[bytes] | None:
    """The process that draws, or None where none can be started.

    It does not start in the user's folder, where Python would import what lies there, and is not stopped from their keyboard: it
    goes when this process does.
    """
    command, home = [sys.executable, "-m", __name__], Path(sys.executable).parent
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, cwd=home, start_new_session=True)
    except OSError as error:
        log.debug("No process to draw can be started: %s", error)
        return None


def _told(process: subprocess.Popen[bytes], facts: PlanFacts) -> bytes | None:
    """The picture, if the other process drew it."""
    try:
        png, _ = process.communicate(pickle.dumps(facts), LONGEST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("The process that draws did not: %s", error)
        return None
    return png if process.returncode == 0 else None


def main() -> None:
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    told = sys.stdin.buffer.read()
    if told:  # nothing: there is nothing to draw
        sys.stdout.buffer.write(plan_png(pickle.loads(told)))  # from the process that started this one


if __name__ == "__main__":
    main()
