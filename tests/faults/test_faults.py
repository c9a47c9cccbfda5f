"""Every row of the fault table, and what the table as a whole has to be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import ALL
from faults.material import Material
from faults.rows import WORKS, Attempt, Place, Row, partly, refused, works
from faults.runner import isolated, run

COMMANDS = {path.stem for path in (Path(__file__).parents[2] / "lnauto/commands").glob("*.py")} - {"__init__", "common"}


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    folder = tmp_path_factory.mktemp("faults")
    with isolated(folder):
        yield Material(folder / "shared")


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.subject}: {row.fault}")
def test_it_is_told_and_nothing_is_harmed(row: Row, material: Material, tmp_path: Path) -> None:
    outcome = run(row, material, tmp_path)
    assert not outcome.wrong, f"lnauto_{outcome.command}: {'; '.join(outcome.wrong)}\n{outcome.message}"


def test_the_table_is_long_its_rows_are_distinct_and_every_command_is_in_it(material: Material, tmp_path: Path) -> None:
    assert len({(row.subject, row.fault) for row in ALL}) == len(ALL) >= 120
    found = Counter[str]()
    working = 0
    here = Path.cwd()
    for number, row in enumerate(ALL):
        folder = tmp_path / str(number)
        folder.mkdir()
        os.chdir(folder)
        try:
            attempt = row.make(Place(folder, material))
        finally:
            os.chdir(here)
        found[attempt.command] += 1
        working += attempt.code == WORKS
    assert set(found) == COMMANDS
    assert working <= 20


# ---- the runner itself sees what a row must not do


def nothing() -> None:
    pass


def told(what: str) -> str:
    return f"lnauto: {what}, in here; mend it\n"


@pytest.fixture
def judged(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is wrong with a command that does as it is told here."""

    def judge(attempt: Attempt, act) -> tuple[str, ...]:
        import lnauto.commands.measure as command

        monkeypatch.setattr(command, "main", act)

        def make(place: Place) -> Attempt:
            place.text("in/scan.txt", "scan")
            return attempt

        return run(Row("of the runner", "none", make), material, tmp_path).wrong

    return judge


def complaining(text: str, code: int = 2, also=nothing):
    import sys

    def act(_: list[str]) -> int:
        also()
        sys.stderr.write(text)
        return code

    return act


REFUSED = refused("measure", names="in here")


@pytest.mark.parametrize(
    ("act", "wrong"),
    [
        (complaining(told("bad")), ""),
        (complaining(told("bad"), code=0), "exit code 0 instead of 2"),
        (complaining("lnauto: bad\n"), "no remedy"),
        (complaining(told("bad") * 9), "9 lines of complaint"),
        (complaining(told("bad") + "Traceback (most recent call last):\n"), "a traceback is shown"),
        (complaining(told("bad") + "WARNING: of a library\n"), "lines besides"),
        (complaining("lnauto: bad, in there; mend it\n"), "it does not say 'in here'"),
        (complaining(told("bad"), also=lambda: Path("in/scan.txt").write_text("other")), "in/scan.txt was changed"),
        (complaining(told("bad"), also=lambda: Path("in/scan.txt").unlink()), "in/scan.txt is gone"),
        (complaining(told("bad"), also=lambda: Path("half").write_text("")), "half was left behind"),
        (complaining(told("bad"), also=lambda: Path("in/.9.half").write_text("")), "in/.9.half was left behind"),
        (complaining(told("bad"), also=lambda: os.write(2, b"libpng error\n")), "lines besides: ['libpng error']"),
        (complaining(told("bad"), also=lambda: 1 / 0), "traceback of ZeroDivisionError"),
    ],
)
def test_the_runner_sees_it(judged, act, wrong: str) -> None:
    found = judged(REFUSED, act)
    assert any(wrong in one for one in found) if wrong else found == ()


def test_the_runner_asks_whether_the_result_is_right(judged) -> None:
    def right() -> None:
        assert Path("result").is_file()

    assert "the result is not right" in judged(works("measure", right=right), complaining("", 0))[0]
    assert "the result is not right" in judged(partly("measure", names="here", right=right), complaining(told("bad"), 3))[0]
    left = complaining("", 0, also=lambda: Path(".9.result").write_text(""))
    assert "the temporary .9.result was left behind" in judged(works("measure", right=nothing), left)[0]
