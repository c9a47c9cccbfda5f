"""lnauto: looks at a lymph-node data set, configures itself, and does the whole job. It stands on nnU-Net v2."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lnauto.inference.prediction import Prediction
    from lnauto.inference.predictor import Predictor
    from lnauto.report.notebook import show

__all__ = ["EXT_TRAINER_DIR", "Prediction", "Predictor", "__version__", "show"]

__version__ = "0.1.0"

EXT_TRAINER_DIR = str(Path(__file__).parent / "ext_trainer")
"""What nnU-Net's variable `nnUNet_extTrainer` has to name for stock `nnUNetv2_predict` to find lnauto's trainers."""


def __getattr__(name: str) -> Any:
    """PyTorch comes with these, and takes seconds."""
    if name == "Predictor":
        from lnauto.inference.predictor import Predictor

        return Predictor
    if name == "Prediction":
        from lnauto.inference.prediction import Prediction

        return Prediction
    if name == "show":
        from lnauto.report.notebook import show

        return show
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
