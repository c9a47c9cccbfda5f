"""What tests share: where real data lie, and a tiny data set that is planned and preprocessed once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from building import write_balls

from lnauto.commands.common import share_cores
from lnauto.paths import VARIABLES

share_cores()

# As planning is told in every test but those of the probe itself: a machine so slow that the smallest network and the shortest
# epochs are planned, with two batches of validation each.
SECONDS_PER_STEP = 7.0
PICTURES = {"lnauto.workflow.plan": "draw_plan", "lnauto.trainers.lntrainer": "draw_learning_curve"}
DEFAULT_REALDATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--realdata",
        type=Path,
        default=DEFAULT_REALDATA,
        help="folder of real data sets (default: ../shared/data beside the repository)",
    )


@pytest.fixture(scope="session")
def realdata(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--realdata")
    if not folder.is_dir():
        pytest.skip(f"there are no real data in {folder}; name their folder with --realdata")
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


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The balls as data set 901, planned for a CPU and preprocessed; read-only for tests."""
    from lnauto.workflow.plan import Request, plan_and_preprocess

    root = tmp_path_factory.mktemp("prepared")
    write_balls(root / "raw" / "Dataset901_Balls")
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("901", Request(device="cpu", quiet=True))
    return root


@pytest.fixture
def balls(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared balls, with results of the test's own; the test runs beside them."""
    monkeypatch.setenv("nnUNet_raw", str(prepared / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(prepared / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    return prepared


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
    """Two folds trained on the balls for a few iterations."""
    from lnauto.trainers import lntrainer
    from lnauto.workflow.train import Request, train

    results = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lntrainer, "draw_learning_curve", lambda *_: None)
        for name in ("raw", "preprocessed"):
            patch.setenv(f"nnUNet_{name}", str(prepared / name))
        patch.setenv("nnUNet_results", str(results))
        return train("901", ["0", "1"], Request(iterations=80, device="cpu", workers=0, quiet=True))
