"""What tests share: where real data lie, and a tiny data set that is planned and preprocessed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lnauto.paths import VARIABLES

DEFAULT_REALDATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--realdata", type=Path, default=DEFAULT_REALDATA, help="folder of real data sets (default: ../shared/data beside the repository)"
    )


@pytest.fixture(scope="session")
def realdata(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--realdata")
    if not folder.is_dir():
        pytest.skip(f"there are no real data in {folder}; name their folder with --realdata")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The one-off check of the processor is kept apart from the user's own."""
    from lnauto.networks import compute

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "CACHE", tmp_path_factory.mktemp("cache") / "compute.json")
        yield


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty raw, preprocessed and results folders; nnU-Net's variables point to them, and the test runs beside them."""
    for name, variable in VARIABLES.items():
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_image(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (2.0, 1.5, 1.5)) -> None:
    """Write a (z, y, x) array with (z, y, x) spacing, away from the origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((-12.0, 7.5, 30.0))
    sitk.WriteImage(image, str(path))


def write_balls(folder: Path, cases: int = 6, side: int = 32, seed: int = 0, test_cases: int = 2) -> None:
    """A raw data set of noisy volumes with three bright balls each: learnt within seconds."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"))
    for number in range(cases + test_cases):
        image = rng.normal(0, 60, (side,) * 3).astype(np.float32)
        label = np.zeros((side,) * 3, np.uint8)
        for _ in range(3):
            centre, radius = rng.uniform(6, side - 6, 3), rng.uniform(2.5, 4.5)
            label[np.linalg.norm(grid - centre[:, None, None, None], axis=0) <= radius] = 1
        image += 200 * label
        part = "Tr" if number < cases else "Ts"
        write_image(folder / f"images{part}" / f"ball_{number:02d}_0000.nii.gz", image)
        write_image(folder / f"labels{part}" / f"ball_{number:02d}.nii.gz", label)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The balls as data set 901, planned for a CPU and preprocessed; read-only for tests."""
    from lnauto.workflow.plan import plan_and_preprocess

    root = tmp_path_factory.mktemp("prepared")
    write_balls(root / "raw" / "Dataset901_Balls")
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in VARIABLES.items():
            patch.setenv(variable, str(root / name))
        plan_and_preprocess("901", device="cpu", quiet=True)
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
