"""The house stands: a room imports only from floors below its own, and nnU-Net comes in through one door."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
WINGS = ("planners", "trainers")

# documentation/architecture.md shows this table; a room that is not in it is a fault.
FLOORS = {
    "door": 6,
    "commands": 6,
    "workflow": 5,
    "report": 5,
    "ext_trainer": 5,
    "trainers": 4,
    "planners": 3,
    "inference": 2,
    "networks": 2,
    "data": 1,
    "evaluation": 1,
    "dicom": 1,
    "ground": 0,
}
GROUND = {
    "",
    "nodes",
    "paths",
    "errors",
    "files",
    "image_files",
    "locks",
    "allowance",
    "compat",
}  # may know each other; "" is lnauto/__init__.py, as others import it
NEIGHBOURS = {("workflow", "report"), ("inference", "networks")}  # the first room may import the second on its own floor
NNUNET = {"nnunetv2", "batchgenerators", "batchgeneratorsv2", "dynamic_network_architectures"}


def violations(root: Path) -> list[str]:
    """Every import below `root` that the floors forbid, as `file:line: what`."""
    found = []
    for path in sorted(modules_of(root)):
        package = package_of(path, root)
        room = "door" if path == root / "lnauto/__init__.py" else room_of((*package[1:], path.stem))
        for line, target in imports_of(path, package):
            fault = judge(room, path, root, target)
            if fault:
                found.append(f"{path.relative_to(root).as_posix()}:{line}: {fault}")
    return found


def modules_of(root: Path) -> Iterator[Path]:
    for folder in ("lnauto", *WINGS):
        for path in (root / folder).rglob("*.py"):
            if not any((root / "lnauto" / wing) in path.parents for wing in WINGS):  # the links, where rglob follows them
                yield path


def package_of(path: Path, root: Path) -> tuple[str, ...]:
    """The package a file belongs to once it is installed."""
    folders = path.relative_to(root).parts[:-1]
    return folders if folders[0] == "lnauto" else ("lnauto", *folders)


def room_of(names: tuple[str, ...]) -> str:
    """The room of a module, from its names below `lnauto`."""
    name = names[0] if names and names[0] != "__init__" else ""
    return "ground" if name in GROUND else name


def imports_of(path: Path, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = (node.module,) if node.module else ()
            yield from ((node.lineno, ".".join((*start, *module, alias.name))) for alias in node.names)


def judge(room: str, path: Path, root: Path, target: str) -> str | None:
    top, *rest = target.split(".")
    if top in NNUNET and path.parent != root / "lnauto" / "compat":
        return f"imports {top}, which only lnauto/compat does"
    if room not in FLOORS:
        return f"the room {room} stands on no floor"
    if top in WINGS:
        return f"imports {top}, which is called lnauto.{top}"
    if top != "lnauto":
        return None
    other = room_of(tuple(rest))
    if other not in FLOORS:
        # `from lnauto import name`: an attribute of lnauto/__init__.py, unless a room of that name is missing above.
        other = "ground" if len(rest) == 1 and not (root / "lnauto" / rest[0]).exists() else other
    if other == room or (room, other) in NEIGHBOURS:
        return None
    if other not in FLOORS:
        return f"imports {target}: the room {other} stands on no floor"
    if FLOORS[other] < FLOORS[room]:
        return None
    return f"{room} (floor {FLOORS[room]}) imports {target} (floor {FLOORS[other]})"


def test_the_house_stands() -> None:
    assert violations(REPOSITORY) == []


def test_the_page_shows_these_floors() -> None:
    page = (REPOSITORY / "documentation" / "architecture.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if re.match(r"\| \d ", line)}
    rooms = {name: floor for name, floor in FLOORS.items() if name not in ("ground", "door")}
    rooms |= {name: 0 for name in GROUND if name}
    assert [name for name, floor in rooms.items() if not re.search(rf"\b{name}\b", rows[str(floor)])] == []


@dataclass(frozen=True)
class House:
    """A copy of the house to plant faults in, and what was wrong with it before."""

    root: Path
    known: list[str]

    def new_violations(self, file: str, source: str) -> list[str]:
        """What is found once `source` stands at the end of `file`."""
        planted = self.root / file
        before = planted.read_text() if planted.exists() else None
        planted.parent.mkdir(exist_ok=True, parents=True)
        planted.write_text(f"{before or ''}\n{source}\n")
        try:
            return [one for one in violations(self.root) if one not in self.known]
        finally:
            planted.unlink() if before is None else planted.write_text(before)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("house")
    for folder in ("lnauto", *WINGS):
        shutil.copytree(REPOSITORY / folder, root / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return House(root, violations(root))


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("lnauto/data/x.py", "from lnauto.trainers.a import B", "data (floor 1) imports lnauto.trainers.a.B (floor 4)"),
        ("lnauto/data/x.py", "def f():\n    import lnauto.evaluation", "data (floor 1) imports lnauto.evaluation (floor 1)"),
        ("lnauto/data/x.py", "from lnauto import planners", "data (floor 1) imports lnauto.planners (floor 3)"),
        ("lnauto/data/x.py", "from ..workflow import plan", "data (floor 1) imports lnauto.workflow.plan (floor 5)"),
        ("lnauto/networks/x.py", "from lnauto.inference import y", "networks (floor 2) imports lnauto.inference.y (floor 2)"),
        ("lnauto/report/x.py", "from lnauto.workflow import plan", "report (floor 5) imports lnauto.workflow.plan (floor 5)"),
        ("lnauto/nodes.py", "from lnauto.data.raw import Case", "ground (floor 0) imports lnauto.data.raw.Case (floor 1)"),
        ("lnauto/__init__.py", "from lnauto.commands import train", "door (floor 6) imports lnauto.commands.train (floor 6)"),
        ("planners/x.py", "from lnauto.trainers import base", "planners (floor 3) imports lnauto.trainers.base (floor 4)"),
        ("planners/x.py", "from ..workflow import plan", "planners (floor 3) imports lnauto.workflow.plan (floor 5)"),
        ("trainers/patient/x.py", "from lnauto.report import page", "trainers (floor 4) imports lnauto.report.page (floor 5)"),
        ("trainers/x.py", "import planners.plan", "imports planners, which is called lnauto.planners"),
        ("trainers/x.py", "from nnunetv2.paths import nnUNet_raw", "imports nnunetv2, which only lnauto/compat does"),
        ("lnauto/cellar/x.py", "import os", "the room cellar stands on no floor"),
        ("lnauto/data/x.py", "from lnauto.cellar import wine", "imports lnauto.cellar.wine: the room cellar stands on no floor"),
    ],
)
def test_a_fault_is_reported(house: House, file: str, source: str, fault: str) -> None:
    [new] = house.new_violations(file, source)
    assert new.startswith(f"{file}:")
    assert fault in new


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("lnauto/compat/x.py", "from nnunetv2.paths import nnUNet_raw"),
        ("lnauto/workflow/x.py", "from lnauto.report import page"),
        ("lnauto/commands/x.py", "from lnauto import __version__\nfrom lnauto.commands.common import run"),
        ("trainers/x.py", "from . import schedule\nfrom lnauto.planners.plan import Plan\nimport torch"),
    ],
)
def test_what_is_allowed_is_not_reported(house: House, file: str, source: str) -> None:
    assert house.new_violations(file, source) == []
