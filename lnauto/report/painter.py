"""A picture drawn while other work goes on, by a process of its own where that saves time.

Importing Matplotlib and drawing a page are Python's own work, which one process does on one core only. So a process is started
early, imports what it needs, and waits to be told what to draw. Where Matplotlib is there already, drawing here is quicker.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from lnauto.cores import usable_cores
from lnauto.report.plan_facts import PlanFacts
from lnauto.report.plan_picture import draw_plan

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60  # then it is drawn here


class Painter:
    """Draws one picture of a plan, between entering and leaving."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._drawn: Future[None] | None = None

    def __enter__(self) -> Painter:
        if "matplotlib.figure" not in sys.modules and usable_cores() > 1:
            quiet, home = subprocess.DEVNULL, Path(sys.executable).parent  # not the user's folder: Python imports what lies there
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd=home
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None and self._drawn is not None:
                self._drawn.result()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._pool.shutdown()

    def paint(self, facts: PlanFacts, path: Path) -> None:
        """Begin; on leaving, the picture is there."""
        self._drawn = self._pool.submit(self._paint, facts, path)

    def _paint(self, facts: PlanFacts, path: Path) -> None:
        if self._process is None or not _told(self._process, facts, path):
            draw_plan(facts, path)


def _told(process: subprocess.Popen[bytes], facts: PlanFacts, path: Path) -> bool:
    """Whether the other process drew it."""
    try:
        process.communicate(pickle.dumps((facts, path.absolute())), LONGEST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("The process that draws did not: %s", error)
        return False
    return process.returncode == 0


def main() -> None:
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    told = sys.stdin.buffer.read()
    if told:  # nothing: there is nothing to draw
        draw_plan(*pickle.loads(told))  # from the process that started this one


if __name__ == "__main__":
    main()
