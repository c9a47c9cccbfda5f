"""What this machine has for lnauto: software, hardware, data folders, and what stands in the way.

It has to work where lnauto's own requirements are missing, so it imports none of them before it has looked for them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnauto import __version__
from lnauto.allowance import memory_left, usable_cores
from lnauto.errors import Problem
from lnauto.paths import DATASET_NAME, DEFAULT_ROOT, VARIABLES

GB = 1e9
LEAST_MEMORY_GB = 8.0
LEAST_DISK_GB = 10.0
MODULES = {
    "scikit-image": "skimage",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "connected-components-3d": "cc3d",
}  # those whose module is named otherwise
CPUINFO = Path("/proc/cpuinfo")
AUGMENTERS = "nnUNet_n_proc_DA"
MATRIX = 512
SECONDS_PER_PRECISION = 0.2

MISSING, WARNING, HARMLESS = "missing", "warning", "harmless"


@dataclass(frozen=True)
class Finding(Problem):
    """A fault, and how much it matters: `missing` keeps lnauto from working."""

    level: str


@dataclass(frozen=True)
class Package:
    """A package lnauto declares, and what of it was found."""

    name: str
    wanted: str  # the declared range, as pip writes it; empty for any version
    found: str | None
    fault: str | None = None  # why it cannot be imported
    in_range: bool = True


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gb: float


@dataclass(frozen=True)
class Hardware:
    """What lnauto can compute with; None is unknown."""

    gpus: tuple[Gpu, ...]
    mps: bool
    cuda_of_torch: str | None  # the CUDA version torch was built for
    driver: bool  # whether NVIDIA's own tool is there
    physical_cores: int | None
    usable_cores: int
    avx512_bf16: bool | None
    amx_bf16: bool | None
    memory_gb: float | None
    available_gb: float | None


@dataclass(frozen=True)
class Speed:
    """What one core does in matrix products; a whole network gains less from bf16, which lnauto checks when it first runs one."""

    fp32_gflops: float
    bf16_gflops: float


@dataclass(frozen=True)
class Folder:
    """One of the three data folders."""

    name: str
    path: str
    variable: str
    from_variable: bool
    exists: bool
    writable: bool
    free_gb: float


@dataclass(frozen=True)
class Contents:
    """What the data folders hold."""

    datasets: int
    plans: int
    models: int
    folds: int


@dataclass(frozen=True)
class Report:
    lnauto: str
    python: str
    environment: str
    packages: tuple[Package, ...]
    hardware: Hardware
    speed: Speed | None
    folders: tuple[Folder, ...]
    contents: Contents
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == MISSING]


def examine() -> Report:
    """Look at everything once; takes a few seconds, most of them for importing torch."""
    packages = examine_packages()
    torch_works = any(package.name == "torch" and package.found and package.fault is None for package in packages)
    hardware = examine_hardware(torch_works)
    folders = examine_folders()
    return Report(
        lnauto=__version__,
        python=platform.python_version(),
        environment=sys.prefix,
        packages=packages,
        hardware=hardware,
        speed=measure_speed() if torch_works else None,
        folders=folders,
        contents=count_contents(folders),
        findings=(
            *find_package_faults(packages),
            *find_hardware_faults(hardware),
            *find_folder_faults(folders),
            *find_variable_faults(),
        ),
    )


def examine_packages() -> tuple[Package, ...]:
    """Every package that lnauto's own metadata declare, extras left out."""
    try:
        from packaging.requirements import Requirement

        declared = [Requirement(text) for text in importlib.metadata.requires("lnauto") or ()]
    except ImportError as error:  # PackageNotFoundError is one too: lnauto runs from a folder it was not installed from
        return (Package(str(error.name), "", None),)
    wanted = [one for one in declared if one.marker is None or one.marker.evaluate({"extra": ""})]
    return tuple(_examine_package(one.name, str(one.specifier)) for one in wanted)


def _examine_package(name: str, wanted: str) -> Package:
    from packaging.specifiers import SpecifierSet

    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Package(name, wanted, None)
    fault = None
    try:
        importlib.import_module(MODULES.get(name, name.replace("-", "_")))
    except Exception as error:  # a broken shared library raises OSError, a mismatch of versions anything
        fault = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return Package(name, wanted, found, fault, SpecifierSet(wanted).contains(found, prereleases=True))


def examine_hardware(torch_works: bool) -> Hardware:
    gpus: tuple[Gpu, ...] = ()
    mps, cuda = False, None
    if torch_works:
        import torch

        cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        gpus = tuple(Gpu(card.name, card.total_memory / GB) for card in cards)
        mps, cuda = torch.backends.mps.is_available(), torch.version.cuda
    flags = cpu_flags()
    total = available = physical = None
    try:
        import psutil
    except ImportError:
        pass  # told among the packages
    else:
        memory = psutil.virtual_memory()
        total, available = memory.total / GB, memory_left(with_swap=False) / GB
        physical = psutil.cpu_count(logical=False)
    return Hardware(
        gpus=gpus,
        mps=mps,
        cuda_of_torch=cuda,
        driver=shutil.which("nvidia-smi") is not None,
        physical_cores=physical,
        usable_cores=usable_cores(),
        avx512_bf16=None if flags is None else "avx512_bf16" in flags,
        amx_bf16=None if flags is None else "amx_bf16" in flags,
        memory_gb=total,
        available_gb=available,
    )


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str] | None:
    """What an x86 CPU says it can do under Linux; None where nothing says so."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)


def measure_speed() -> Speed:
    """The fastest product of each precision on one core.

    On all cores a product waits for the slowest, and on a busy machine that made fp32 look twenty times slower than it is.
    """
    import torch

    def gflops(dtype: torch.dtype) -> float:
        matrix = torch.ones(MATRIX, MATRIX, dtype=dtype)
        fastest = float("inf")
        end = time.perf_counter() + SECONDS_PER_PRECISION
        while (start := time.perf_counter()) < end:
            torch.matmul(matrix, matrix)
            fastest = min(fastest, time.perf_counter() - start)
        return 2 * MATRIX**3 / fastest / 1e9

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return Speed(gflops(torch.float32), gflops(torch.bfloat16))
    finally:
        torch.set_num_threads(threads)


def examine_folders() -> tuple[Folder, ...]:
    """The folders that `paths.activate` would choose, without telling nnU-Net about them as it does."""
    return tuple(_examine_folder(name, variable) for name, variable in VARIABLES.items())


def _examine_folder(name: str, variable: str) -> Folder:
    given = os.environ.get(variable)
    path = Path(given) if given else Path.cwd() / DEFAULT_ROOT / name
    absolute = path.absolute()
    nearest = next(place for place in (absolute, *absolute.parents) if place.exists())
    return Folder(
        name=name,
        path=str(path),
        variable=variable,
        from_variable=bool(given),
        exists=path.is_dir(),
        writable=os.access(nearest, os.W_OK),
        free_gb=shutil.disk_usage(nearest).free / GB,
    )


def count_contents(folders: Sequence[Folder]) -> Contents:
    raw, preprocessed, results = (_datasets_in(Path(folder.path)) for folder in folders)
    folds = [done for dataset in results for done in dataset.glob("*__*__*/fold_*/checkpoint_final.pth")]
    return Contents(
        datasets=len(raw),
        plans=sum(1 for dataset in preprocessed if (dataset / "lnautoPlans.json").is_file()),
        models=len({done.parents[1] for done in folds}),
        folds=len(folds),
    )


def _datasets_in(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if DATASET_NAME.fullmatch(entry.name)] if folder.is_dir() else []


def find_package_faults(packages: Sequence[Package]) -> list[Finding]:
    findings = []
    for package in packages:
        install = f"pip install {package.name}" if not package.wanted else f"pip install '{package.name}{package.wanted}'"
        if package.name == "lnauto":
            findings.append(Finding("lnauto itself is not installed", sys.prefix, "pip install -e . in its folder", MISSING))
        elif package.found is None:
            findings.append(Finding(f"{package.name} is not installed", sys.prefix, install, MISSING))
        elif package.fault is not None:
            what = f"{package.name} {package.found} cannot be imported ({package.fault})"
            findings.append(Finding(what, sys.prefix, f"install it anew: {install} --force-reinstall", MISSING))
        elif not package.in_range:
            what = f"{package.name} is {package.found}, and lnauto was made for {package.wanted}; it may work or not"
            findings.append(Finding(what, sys.prefix, install, WARNING))
    return findings


def find_hardware_faults(hardware: Hardware) -> list[Finding]:
    findings = []
    if hardware.memory_gb is not None and hardware.memory_gb < LEAST_MEMORY_GB:
        what = f"there is {hardware.memory_gb:.1f} GB of memory, and large scans want {LEAST_MEMORY_GB:.0f} GB or more"
        findings.append(Finding(what, "this machine", "close other programs, or use small scans", WARNING))
    if hardware.cuda_of_torch and not hardware.gpus:
        if hardware.driver:
            what = f"nvidia-smi is here, but torch (made for CUDA {hardware.cuda_of_torch}) finds no GPU"
            remedy = "run nvidia-smi: its CUDA version must not be older than torch's, else update the driver"
            findings.append(Finding(what, "this machine", remedy, WARNING))
        else:
            what = f"torch was made for CUDA {hardware.cuda_of_torch}, and there is no GPU"
            findings.append(Finding(what, "this machine", "nothing has to be done: lnauto uses the CPU", HARMLESS))
    return findings


def find_folder_faults(folders: Sequence[Folder]) -> list[Finding]:
    findings = []
    low = [folder for folder in folders if folder.free_gb < LEAST_DISK_GB]
    if low:
        what = f"less than {LEAST_DISK_GB:.0f} GB of disk is free for {', '.join(folder.name for folder in low)}"
        findings.append(Finding(what, low[0].path, "make room, or set nnU-Net's variables to folders on another disk", WARNING))
    for folder in folders:
        if folder.name != "raw" and not folder.writable:  # raw data may well be protected
            what = f"the folder for {folder.name} data cannot be written"
            findings.append(Finding(what, folder.path, f"change its permissions, or set {folder.variable} to another", WARNING))
        if folder.name == "raw" and folder.from_variable and not folder.exists:
            what = f"{folder.variable} names a folder that is not there"
            findings.append(Finding(what, folder.path, "make it, or mend the variable", WARNING))
    return findings


def find_variable_faults() -> list[Finding]:
    if os.environ.get(AUGMENTERS, "").strip() != "0":
        return []
    what = f"{AUGMENTERS} is 0, with which nnU-Net's own planning crashes"
    remedy = f"unset {AUGMENTERS} before you plan with nnU-Net; lnauto does not need it"
    return [Finding(what, "the environment", remedy, WARNING)]
