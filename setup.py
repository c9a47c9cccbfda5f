"""Packaging: `planners/` and `trainers/` lie beside `lnauto/` and install as `lnauto.planners` and `lnauto.trainers`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
WINGS = ("planners", "trainers")

version = re.search(r'__version__ = "(.+?)"', (HERE / "lnauto/__init__.py").read_text()).group(1)

# The relative links lnauto/planners and lnauto/trainers serve Python and mypy started in the repository root; what is
# installed comes from the folders themselves, so that a checkout without links (Windows) installs too.
packages = [
    name
    for name in find_packages(include=["lnauto", "lnauto.*"])
    if not name.startswith(tuple(f"lnauto.{wing}" for wing in WINGS))
]
for wing in WINGS:
    packages += [f"lnauto.{wing}", *(f"lnauto.{wing}.{name}" for name in find_packages(wing))]

COMMANDS = (
    "plan_and_preprocess",
    "train",
    "predict",
    "evaluate",
    "convert",
    "measure",
    "report",
    "view",
    "import_model",
    "export",
    "make_phantom",
    "demo",
    "doctor",
)

ONNX = ["onnx>=1.17,<2", "onnxscript>=0.2,<1"]
VIEW = ["ipyniivue>=2.4,<2.5"]  # its widget.js is driven by report/assets/view.js, which tests/test_view_in_browser.py checks
TENSORBOARD = ["tensorboard>=2.16,<3"]
# MLflow's client; without a server it keeps runs in a database in the working directory, for which it needs the other two
MLFLOW = ["mlflow-skinny>=2.16,<4", "sqlalchemy>=2,<3", "alembic>=1.13,<2"]

# Lower bounds are what .ci/matrix installs and runs with the oldest Python; upper bounds the major version after what it
# runs with the newest.
setup(
    name="lnauto",
    version=version,
    description="Self-configuring segmentation of lymph nodes, on nnU-Net v2",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages,
    package_dir={"lnauto": "lnauto", **{f"lnauto.{wing}": wing for wing in WINGS}},
    package_data={"lnauto": ["py.typed", "ext_trainer/*.py", "report/assets/*"]},  # ext_trainer: a folder for nnU-Net to search
    install_requires=[
        "torch>=2.6,!=2.9.*,<3",  # before 2.6 even a checkpoint read as data could run code; nnU-Net excludes 2.9, which is slow
        "nnunetv2>=2.8.1,<2.9",  # what lnauto relies on inside it is checked by tests/test_compat.py
        "batchgenerators>=0.25.5,<0.26",
        "batchgeneratorsv2>=0.3.6,<0.4",
        "acvl-utils>=0.2.6,<0.3",
        "SimpleITK>=2.3,<3",
        "pydicom>=3.0.1,<4",
        # brings Pillow and pyjpegls, with which pydicom decodes JPEG 2000 and JPEG-LS; other JPEG beyond 8 bits is left to
        # SimpleITK, because pylibjpeg-libjpeg is under the GPL
        "highdicom>=0.28,<1",
        "numpy>=1.26,<3",
        "scipy>=1.11,<2",
        "pandas>=2.1,<4",
        "scikit-learn>=1.3,<2",
        "scikit-image>=0.22,<1",
        "connected-components-3d>=3.12,<5",
        "openvino>=2024.6,<2027; platform_machine in 'x86_64 AMD64 arm64 aarch64'",  # elsewhere PyTorch does its work
        "matplotlib>=3.8,<4",
        "contourpy>=1.2,<2",  # comes with matplotlib
        "packaging>=23,<27",
        "pillow>=10,<14",
        "psutil>=5.9,<8",
        "threadpoolctl>=3.1,<4",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "onnx": ONNX,
        "view": VIEW,
        "tensorboard": TENSORBOARD,
        "mlflow": MLFLOW,
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.8",
            "mypy>=1.13",
            *ONNX,
            *TENSORBOARD,
            *VIEW,
            "onnxruntime>=1.20",
            "selenium>=4.20",
            "dcmqi>=1.5; sys_platform == 'linux' and platform_machine == 'x86_64'",  # what 3D Slicer reads a SEG with
        ],
    },
    entry_points={"console_scripts": [f"lnauto_{name} = lnauto.commands.{name}:main" for name in COMMANDS]},
)
