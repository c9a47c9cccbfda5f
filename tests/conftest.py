"""What tests share: where real data lie, and a tiny data set that is planned and preprocessed once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # each has its share of the cores; it counts before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import matplotlib.figure  # noqa: F401  plans' pictures are then drawn by this process, where a test can leave them out
import psutil
import pytest
from building import put_beside, write_balls, write_random_model
from foundations import make_foundation

from lnauto.allowance import usable_cores
from lnauto.commands.common import share_cores
from lnauto.paths import VARIABLES

if TYPE_CHECKING:
    from trainings import Validated

share_cores()

# As planning is told in every test but those of the probe itself: a machine so slow that the smallest network and the shortest
# epochs are planned, with two batches of validation each.
SECONDS_PER_STEP = 7.0
PICTURES = {
    "lnauto.report.painter": "draw_plan",
    "lnauto.trainers.lntrainer": "draw_learning_curve",
    "lnauto.workflow.train": "report_training",
    "lnauto.workflow.patient_figures": "draw_patients",
}
GB_A_PROCESS = 4  # and its children
MOST_PROCESSES = 8  # each makes for itself what the tests of a module share
DEFAULT_REALDATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--realdata",
        type=Path,
        default=DEFAULT_REALDATA,
        help="folder of real data sets (default: ../shared/data beside the repository)",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite is shared by as many processes as there are cores, and memory for: volumes are too small for threads to
    gain much. What is named on the command line is run here."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return max(1, min(usable_cores(), int(psutil.virtual_memory().total / GB_A_PROCESS / 1e9), MOST_PROCESSES))


@pytest.fixture(scope="session")
def realdata(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--realdata")
    if not folder.is_dir():
        pytest.skip(f"there are no real data in {folder}; name their folder with --realdata=FOLDER")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured of the processor is kept apart from the user's own, and plans do not depend on how busy it is."""
    from lnauto.networks import machine_cache, probe

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_cache, "FOLDER", tmp_path_factory.mktemp("cache"))
        patch.setattr(probe, "seconds_per_step", lambda *_: SECONDS_PER_STEP)
        yield


@pytest.fixture(autouse=True)
def _without_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """A second each, and most of what a small plan takes: drawn where a test is marked `pictures`, in fixtures of a session or a
    module, and by whoever loads the code first."""
    with pytest.MonkeyPatch.context() as patch:
        for module in sys.modules.keys() & PICTURES.keys() if not request.node.get_closest_marker("pictures") else ():
            patch.setattr(sys.modules[module], PICTURES[module], lambda *_: None)
        yield


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty raw, preprocessed and results folders; nnU-Net's variables point to them, and the test runs beside them."""
    for name, variable in VARIABLES.items():
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the processes of a run share: who needs it first makes it, and the others wait for it."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"shared_{name}"
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of who failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The balls as data set 901, planned for a CPU and preprocessed; read-only for tests."""
    from lnauto.workflow.plan import Request, plan_and_preprocess

    def make(root: Path) -> None:
        write_balls(root / "raw" / "Dataset901_Balls")
        with pytest.MonkeyPatch.context() as patch:
            for name, variable in VARIABLES.items():
                patch.setenv(variable, str(root / name))
            plan_and_preprocess("901", Request(device="cpu", quiet=True))

    return made_once(tmp_path_factory, "prepared", make)


@pytest.fixture
def balls(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared balls, with results of the test's own; the test runs beside them."""
    monkeypatch.setenv("nnUNet_raw", str(prepared / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(prepared / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    return prepared


@pytest.fixture
def balls_plans(prepared: Path) -> dict[str, Any]:
    """Their plan, to change."""
    return dict(json.loads((prepared / "preprocessed/Dataset901_Balls/lnautoPlans.json").read_text()))


@pytest.fixture
def own(folders: Path, balls_plans: dict[str, Any]) -> Path:
    """Raw balls of the test's own, and a foundation model called FM."""
    write_balls(folders / "raw/Dataset901_Balls", cases=4, side=24, test_cases=0)
    make_foundation(folders / "results", balls_plans, {"background": 0, "LN": 1})
    return folders


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in process: its exit code, what it printed, and what it complained of."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        from importlib import import_module

        main = import_module(f"lnauto.commands.{name}").main
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds on the balls: one trained for a few iterations, and another whose weights are a little beside those of the first,
    which takes half of the time; read-only."""
    from lnauto.trainers import lntrainer
    from lnauto.workflow.train import Request, train

    def make(results: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lntrainer, "draw_learning_curve", lambda *_: None)
            for name in ("raw", "preprocessed"):
                patch.setenv(f"nnUNet_{name}", str(prepared / name))
            patch.setenv("nnUNet_results", str(results))
            for fold, iterations in (("0", 80), ("1", 2)):
                how = Request(iterations=iterations, device="cpu", workers=0, report=False, quiet=True)
                folder = train("901", [fold], how)
        put_beside(*(folder / f"fold_{fold}/checkpoint_final.pth" for fold in (0, 1)))

    (trained,) = (made_once(tmp_path_factory, "model", make) / "Dataset901_Balls").iterdir()
    return trained


@pytest.fixture(scope="session")
def random_model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two folds, and what a name or a folder may hide in; read-only."""
    folder = tmp_path_factory.mktemp("made") / "Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres"
    write_random_model(prepared / "preprocessed/Dataset901_Balls", folder)
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "unannotated": ["patient_muster"]}))
    plans = json.loads((folder / "plans.json").read_text())
    plans["lnauto"].update(region="lungs", foundation={"folder": "/home/muster/results/foundations/ln-fm"})
    plans["lnauto"]["inference"].update(smallest_node_mm3=30.0, tta="none", overlap=0.5)
    (folder / "plans.json").write_text(json.dumps(plans))
    figures = {
        "cases": 4,
        "labels": {"node": {"dice": {"mean": 0.8125}}},
        "nodes": {"all nodes": {"pooled": {"true": 12, "found": 9}, "false_per_case": 1.25}},
    }
    (folder / "fold_0/validation").mkdir()
    (folder / "fold_0/validation/evaluation.json").write_text(json.dumps(figures))
    return folder


@pytest.fixture(scope="session")
def validated(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    """A model's folder with two validated folds and a validated patient head, and its page; read-only."""
    from trainings import judged_patients, write_training

    from lnauto.workflow import patient_figures
    from lnauto.workflow.report_training import report_training

    folder = tmp_path_factory.mktemp("validated") / "Dataset901_Balls/LNTrainer__lnautoPlans__3d_fullres"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient_figures, "draw_patients", lambda *_: None)
        for name, variable in VARIABLES.items():  # all three: the others would stay in the environment after `activate`
            patch.setenv(variable, str(prepared / name))
        results = write_training(prepared, folder)
        judged_patients(folder)
        report_training(folder, quiet=True)
    return folder, results


@pytest.fixture
def own_model(validated: Validated, tmp_path: Path, balls: Path) -> Path:
    """One's own, without a head and a page, to spoil; the raw data are known."""
    folder = tmp_path / "own" / validated[0].name
    shutil.copytree(validated[0], folder, ignore=shutil.ignore_patterns("report.*", "LNMTrainer*"))
    return folder


@pytest.fixture
def beside_scan(random_model: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same; the test runs beside a folder of one scan, with a cache of its own."""
    from lnauto.networks import machine_cache
    from lnauto.workflow.node_table import NodeTable

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine_cache, "FOLDER", tmp_path / "cache")
    monkeypatch.setattr("lnauto.workflow.predict.measure_masks", lambda *_: NodeTable())  # of thousands of specks
    (tmp_path / "scans").mkdir()
    shutil.copy(prepared / "raw/Dataset901_Balls/imagesTs/ball_06_0000.nii.gz", tmp_path / "scans")
    return random_model


@pytest.fixture(scope="session")
def packed_model(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fold; read-only."""
    from lnauto.workflow.export_model import Request, export
    from lnauto.workflow.predict import Request as Wanted

    return export(Wanted(model=random_model, folds=["0"]), tmp_path_factory.mktemp("packed") / "balls", Request())
