"""What is installed: the two wings under their names, everything that has to be shipped, and commands that start at once."""

from __future__ import annotations

import ast
import email
import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lnauto

REPOSITORY = Path(__file__).parents[1]
WINGS = ("planners", "trainers")
HEAVY = ("torch", "nnunetv2", "pydicom", "highdicom")  # they cost seconds, which `--help` must not


def declared_commands() -> tuple[str, ...]:
    """COMMANDS as setup.py has it."""
    for node in ast.parse((REPOSITORY / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "COMMANDS":
            return tuple(ast.literal_eval(node.value))
    raise LookupError("setup.py has no COMMANDS")


COMMANDS = declared_commands()


def ask_python(code: str, cwd: Path, path: Path | None = None) -> object:
    """What a fresh Python, started in `cwd`, prints as JSON after running `code`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WHERE_THE_WINGS_ARE = (
    "import importlib, json, pathlib;"
    "folder = lambda name: str(pathlib.Path(importlib.import_module(name).__file__).resolve().parent);"
    f"print(json.dumps([folder('lnauto.' + wing) for wing in {WINGS!r}]))"
)


class TestWorkingTree:
    def test_wings_from_another_directory(self, tmp_path: Path) -> None:
        assert ask_python(WHERE_THE_WINGS_ARE, tmp_path) == [str(REPOSITORY / wing) for wing in WINGS]

    def test_wings_from_the_repository_root(self) -> None:
        assert ask_python(WHERE_THE_WINGS_ARE, REPOSITORY) == [str(REPOSITORY / wing) for wing in WINGS]

    def test_nobody_gets_a_module_called_planners(self, tmp_path: Path) -> None:
        code = f"import importlib.util, json; print(json.dumps([importlib.util.find_spec(wing) is None for wing in {WINGS!r}]))"
        assert ask_python(code, tmp_path) == [True, True]

    def test_folder_for_stock_nnunet(self) -> None:
        assert (Path(lnauto.EXT_TRAINER_DIR) / "lnauto_trainers.py").is_file()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a plain `pip install .` puts into site-packages."""
    place = tmp_path_factory.mktemp("wheel")
    build_wheel(copy_of_tree(place / "tree"), place)
    [wheel] = place.glob("lnauto-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site-packages")
    return place / "site-packages"


def copy_of_tree(target: Path) -> Path:
    """Building writes into the tree, and ships what an earlier build left in `build/`: so never in the repository itself."""
    target.mkdir()
    for folder in ("lnauto", *WINGS):
        shutil.copytree(REPOSITORY / folder, target / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, target)
    return target


def build_wheel(tree: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), str(tree)]
    if setuptools_suffices():
        command.append("--no-build-isolation")  # nothing to download
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def setuptools_suffices() -> bool:
    """Whether this environment can build: setuptools builds wheels by itself since 70.1, and a fresh one may have none."""
    try:
        major, minor, *_ = importlib.metadata.version("setuptools").split(".")
    except importlib.metadata.PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= (70, 1)


class TestPlainInstall:
    @pytest.mark.parametrize(
        "file",
        [
            "lnauto/planners/__init__.py",
            "lnauto/trainers/__init__.py",
            "lnauto/py.typed",
            "lnauto/report/assets/page.css",
            "lnauto/report/assets/page.js",
            "lnauto/ext_trainer/lnauto_trainers.py",
            f"lnauto-{lnauto.__version__}.dist-info/licenses/LICENSE",
        ],
    )
    def test_shipped(self, installed: Path, file: str) -> None:
        assert (installed / file).is_file()

    def test_every_module_is_shipped(self, installed: Path) -> None:
        """Also those of a folder in which somebody forgot `__init__.py`."""
        modules = {file.relative_to(REPOSITORY / "lnauto") for file in (REPOSITORY / "lnauto").rglob("*.py")}
        modules |= {file.relative_to(REPOSITORY) for wing in WINGS for file in (REPOSITORY / wing).rglob("*.py")}
        assert sorted(str(name) for name in modules if not (installed / "lnauto" / name).is_file()) == []

    def test_every_dependency_has_a_lower_and_an_upper_bound(self, installed: Path) -> None:
        """`.ci/matrix` installs the lower ones with the oldest Python, and what the upper ones allow with the newest."""
        metadata = email.message_from_bytes((installed / f"lnauto-{lnauto.__version__}.dist-info/METADATA").read_bytes())
        declared = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
        used = [one for one in declared if one.marker is None or 'extra == "test"' not in str(one.marker)]
        assert len(used) > 20
        unbound = [one.name for one in used if not {">=", "<"} <= {bound.operator for bound in one.specifier}]
        assert unbound == []

    def test_only_lnauto_is_shipped(self, installed: Path) -> None:
        assert sorted(entry.name for entry in installed.iterdir()) == ["lnauto", f"lnauto-{lnauto.__version__}.dist-info"]

    def test_wings_from_elsewhere(self, installed: Path, tmp_path: Path) -> None:
        expected = [str((installed / "lnauto" / wing).resolve()) for wing in WINGS]
        assert ask_python(WHERE_THE_WINGS_ARE, tmp_path, path=installed) == expected

    def test_wings_from_the_repository_root(self, installed: Path) -> None:
        """Python finds `./lnauto` before the installed one there, and the wings through the two links.

        An editable install, which might find them otherwise, is taken out of Python's search.
        """
        code = f"import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; {WHERE_THE_WINGS_ARE}"
        assert ask_python(code, REPOSITORY, path=installed) == [str(REPOSITORY / wing) for wing in WINGS]


@pytest.mark.parametrize("module", ["lnauto", *(f"lnauto.commands.{name}" for name in COMMANDS)])
def test_starts_at_once(module: str, tmp_path: Path) -> None:
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    assert ask_python(code, tmp_path) == []


def test_prediction_begins_without_what_only_figures_need(tmp_path: Path) -> None:
    """They take 50 MB and a third of a second."""
    figures = ("scipy.stats", "scipy.optimize", "scipy.spatial")
    code = f"import json, sys, lnauto.workflow.predict; print(json.dumps([name for name in {figures!r} if name in sys.modules]))"
    assert ask_python(code, tmp_path) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"lnauto.commands.{name}").main
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"lnauto {lnauto.__version__}\n"


def test_commands_are_installed() -> None:
    """A failure here after a change of COMMANDS means: install again."""
    scripts = importlib.metadata.entry_points(group="console_scripts")
    assert {f"lnauto_{name}" for name in COMMANDS} <= {script.name for script in scripts}
    for name in COMMANDS:
        assert (Path(sys.executable).parent / f"lnauto_{name}").is_file()


def test_every_command_is_declared() -> None:
    files = {file.stem for file in (REPOSITORY / "lnauto" / "commands").glob("*.py")} - {"__init__", "common"}
    assert files == set(COMMANDS)
