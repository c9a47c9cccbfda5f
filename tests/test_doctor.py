"""`lnauto_doctor` measures what is there, and says in words what is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from lnauto import paths
from lnauto.commands import doctor as command
from lnauto.workflow import doctor
from lnauto.workflow.doctor import HARMLESS, MISSING, WARNING, Folder, Gpu, Hardware, Package

GOOD_HARDWARE = Hardware(
    gpus=(Gpu("NVIDIA H200", 150.0),),
    mps=False,
    cuda_of_torch="13.0",
    driver=True,
    physical_cores=8,
    usable_cores=16,
    avx512_bf16=True,
    amx_bf16=None,
    memory_gb=64.0,
    available_gb=60.0,
)
GOOD_FOLDER = Folder("results", "/data/results", "nnUNet_results", True, exists=True, writable=True, free_gb=500.0)


@pytest.fixture
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing in it and none of nnU-Net's variables set."""
    monkeypatch.chdir(tmp_path)
    for variable in (*paths.VARIABLES.values(), doctor.AUGMENTERS):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def slow_parts_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the printing tests do not need to measure again."""
    monkeypatch.setattr(doctor, "examine_packages", lambda: (Package("torch", ">=2.4", "2.8.0"),))
    monkeypatch.setattr(doctor, "examine_hardware", lambda torch_works: GOOD_HARDWARE)
    monkeypatch.setattr(doctor, "measure_speed", lambda: doctor.Speed(200.0, 500.0))


def with_package(monkeypatch: pytest.MonkeyPatch, *requirements: str) -> tuple[Package, ...]:
    """What the doctor finds when lnauto declares these."""
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: list(requirements))
    return doctor.examine_packages()


class TestPackages:
    def test_everything_declared_is_found_here(self) -> None:
        packages = doctor.examine_packages()
        assert {"torch", "nnunetv2", "scikit-learn", "connected-components-3d"} <= {package.name for package in packages}
        assert "pytest" not in {package.name for package in packages}, "extras are not required"
        assert doctor.find_package_faults(packages) == []

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        [finding] = doctor.find_package_faults(with_package(monkeypatch, "no-such-package>=3"))
        assert finding.level == MISSING
        assert str(finding) == f"lnauto: no-such-package is not installed, in {sys.prefix}; pip install 'no-such-package>=3'"

    def test_out_of_range(self, monkeypatch: pytest.MonkeyPatch) -> None:
        [finding] = doctor.find_package_faults(with_package(monkeypatch, "nnunetv2<2.0"))
        assert finding.level == WARNING
        assert "lnauto was made for <2.0" in finding.what

    def test_broken(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Installed by its metadata, but its shared library is gone."""
        (tmp_path / "wounded.py").write_text("raise OSError('libGL.so.1: cannot open shared object file')")
        (tmp_path / "wounded-1.0.dist-info").mkdir()
        (tmp_path / "wounded-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: wounded\nVersion: 1.0\n")
        monkeypatch.syspath_prepend(tmp_path)
        [finding] = doctor.find_package_faults(with_package(monkeypatch, "wounded"))
        assert finding.level == MISSING
        assert "libGL.so.1" in finding.what

    def test_lnauto_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def not_there(name: str) -> list[str]:
            raise doctor.importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(doctor.importlib.metadata, "requires", not_there)
        [finding] = doctor.find_package_faults(doctor.examine_packages())
        assert "lnauto itself is not installed" in finding.what


class TestHardware:
    def test_measured_here(self) -> None:
        hardware = doctor.examine_hardware(torch_works=True)
        assert hardware.usable_cores >= 1
        assert hardware.memory_gb == pytest.approx(psutil.virtual_memory().total / 1e9)
        assert hardware.memory_gb is not None
        assert hardware.available_gb is not None
        assert 0 < hardware.available_gb <= hardware.memory_gb

    def test_without_torch_or_psutil(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psutil", None)  # importing it now fails
        monkeypatch.setitem(sys.modules, "torch", None)
        hardware = doctor.examine_hardware(torch_works=False)
        assert (hardware.memory_gb, hardware.gpus, hardware.cuda_of_torch) == (None, (), None)

    def test_cpu_flags(self, tmp_path: Path) -> None:
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_tile\n\nprocessor\t: 1\n")
        assert doctor.cpu_flags(cpuinfo) == {"fpu", "avx512_bf16", "amx_tile"}
        cpuinfo.write_text("processor\t: 0\nFeatures\t: asimd bf16\n")  # ARM names them otherwise
        assert doctor.cpu_flags(cpuinfo) is None
        assert doctor.cpu_flags(tmp_path / "not Linux") is None

    def test_speed_is_a_throughput(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "MATRIX", 128)
        monkeypatch.setattr(doctor, "SECONDS_PER_PRECISION", 0.02)
        threads = torch.get_num_threads()
        speed = doctor.measure_speed()
        assert torch.get_num_threads() == threads
        assert 0.01 < speed.bf16_gflops < 1e5
        assert 0.1 < speed.fp32_gflops < 1e5  # nothing that computes is slower, no CPU is faster

    def test_nothing_to_say(self) -> None:
        assert doctor.find_hardware_faults(GOOD_HARDWARE) == []

    def test_little_memory(self) -> None:
        [finding] = doctor.find_hardware_faults(replace(GOOD_HARDWARE, memory_gb=7.9))
        assert finding.level == WARNING
        assert "7.9 GB of memory" in finding.what

    @pytest.mark.parametrize(("driver", "level"), [(False, HARMLESS), (True, WARNING)])
    def test_cuda_torch_without_gpu(self, driver: bool, level: str) -> None:
        [finding] = doctor.find_hardware_faults(replace(GOOD_HARDWARE, gpus=(), driver=driver))
        assert finding.level == level
        assert "CUDA 13.0" in finding.what


class TestFolders:
    def test_same_as_activate(self, empty_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("nnUNet_results", str(empty_place / "elsewhere"))
        for variable in ("nnUNet_raw", "nnUNet_preprocessed"):  # set and unset, so that what activate sets is undone
            monkeypatch.setenv(variable, "")
        folders = doctor.examine_folders()
        assert {folder.name: folder.from_variable for folder in folders} == {"raw": False, "preprocessed": False, "results": True}
        assert {folder.name: folder.path for folder in folders} == {
            name: str(path) for name, path in vars(paths.activate()).items()
        }

    def test_free_disk_is_that_of_the_nearest_folder(self, empty_place: Path) -> None:
        free_gb = shutil.disk_usage(empty_place).free / 1e9
        assert [folder.free_gb for folder in doctor.examine_folders()] == pytest.approx([free_gb] * 3, rel=0.05)

    def test_asking_changes_nothing(self, empty_place: Path) -> None:
        doctor.examine_folders()
        assert not set(paths.VARIABLES.values()) & set(os.environ)
        assert list(empty_place.iterdir()) == []

    def test_contents(self, empty_place: Path) -> None:
        for name in (
            "raw/Dataset501_Nodes/dataset.json",
            "raw/Dataset502_More/dataset.json",
            "raw/notes/dataset.json",
            "preprocessed/Dataset501_Nodes/lnautoPlans.json",
            "preprocessed/Dataset502_More/nnUNetPlans.json",
            "results/Dataset501_Nodes/LNTrainer__lnautoPlans__3d_fullres/fold_0/checkpoint_final.pth",
            "results/Dataset501_Nodes/LNTrainer__lnautoPlans__3d_fullres/fold_1/checkpoint_final.pth",
            "results/Dataset501_Nodes/LNTrainer__lnautoPlans__3d_lowres/fold_0/checkpoint_latest.pth",
        ):
            file = empty_place / "lnauto_data" / name
            file.parent.mkdir(parents=True)
            file.touch()
        assert doctor.count_contents(doctor.examine_folders()) == doctor.Contents(datasets=2, plans=1, models=1, folds=2)

    def test_nothing_to_say(self) -> None:
        assert doctor.find_folder_faults([GOOD_FOLDER, replace(GOOD_FOLDER, name="raw", writable=False)]) == []

    def test_little_disk_is_said_once(self) -> None:
        low = replace(GOOD_FOLDER, free_gb=9.9)
        [finding] = doctor.find_folder_faults([low, replace(low, name="preprocessed")])
        assert "results, preprocessed" in finding.what

    def test_cannot_be_written(self) -> None:
        [finding] = doctor.find_folder_faults([replace(GOOD_FOLDER, writable=False)])
        assert "cannot be written" in finding.what
        assert "nnUNet_results" in finding.remedy

    def test_raw_folder_not_there(self) -> None:
        [finding] = doctor.find_folder_faults([replace(GOOD_FOLDER, name="raw", variable="nnUNet_raw", exists=False)])
        assert "nnUNet_raw names a folder that is not there" in finding.what


@pytest.mark.parametrize(("value", "findings"), [("0", 1), ("4", 0), (None, 0)])
def test_no_augmentation_processes(value: str | None, findings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(doctor.AUGMENTERS, raising=False)
    if value is not None:
        monkeypatch.setenv(doctor.AUGMENTERS, value)
    assert len(doctor.find_variable_faults()) == findings


@pytest.mark.usefixtures("slow_parts_replaced")
class TestCommand:
    def test_page(self, empty_place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "find_variable_faults", lambda: [doctor.Finding("a word " * 30, "here", "mend it", WARNING)])
        monkeypatch.setattr(command, "examine", lambda: as_elsewhere(doctor.examine()))
        assert command.main([]) == 0
        text = capsys.readouterr().out
        for expected in ("NVIDIA H200, 150.0 GB", "AMX-bf16: unknown", "(2.5 times)", "nnUNet_raw is not set", "0 data sets"):
            assert expected in text
        assert "Everything lnauto requires is here." in text
        assert max(map(len, text.splitlines())) <= command.WIDTH

    def test_missing_package_gives_two(
        self, empty_place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "examine_packages", lambda: (Package("torch", ">=2.4", None),))
        monkeypatch.setattr(doctor, "measure_speed", lambda: pytest.fail("torch is not there to measure with"))
        assert command.main([]) == 2
        captured = capsys.readouterr()
        assert captured.err == f"lnauto: torch is not installed, in {sys.prefix}; pip install 'torch>=2.4'\n"
        assert "lnauto cannot work here yet." in captured.out

    def test_json(self, empty_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["hardware"]["gpus"] == [{"name": "NVIDIA H200", "memory_gb": 150.0}]
        assert report["contents"] == {"datasets": 0, "plans": 0, "models": 0, "folds": 0}

    def test_quiet(self, empty_place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "find_folder_faults", lambda folders: [])
        assert command.main(["--quiet"]) == 0
        assert capsys.readouterr().out == ""
        monkeypatch.setenv(doctor.AUGMENTERS, "0")
        assert command.main(["--quiet"]) == 0
        assert "planning crashes" in capsys.readouterr().out


def as_elsewhere(report: doctor.Report) -> doctor.Report:
    """The report with short paths and a large disk: the layout is judged, not this machine."""
    folders = tuple(replace(folder, path=f"/data/{folder.name}", free_gb=12345.6) for folder in report.folders)
    return replace(report, environment="/venv", folders=folders)


def test_for_real(empty_place: Path) -> None:
    """The installed command, everything measured."""
    script = Path(sys.executable).parent / "lnauto_doctor"
    done = subprocess.run([script, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["speed"]["fp32_gflops"] > 0
    assert [package for package in report["packages"] if package["fault"]] == []
