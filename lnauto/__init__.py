"""lnauto: looks at a lymph-node data set, configures itself, and does the whole job. It stands on nnU-Net v2."""

from pathlib import Path

__version__ = "0.1.0"

EXT_TRAINER_DIR = str(Path(__file__).parent / "ext_trainer")
"""What nnU-Net's variable `nnUNet_extTrainer` has to name for stock `nnUNetv2_predict` to find lnauto's trainers."""
