"""What `nnUNet_extTrainer` points at: stock nnU-Net imports this module and finds lnauto's trainers in it.

Only re-exports stand here. nnU-Net forgets modules it imported from that folder, so a class defined here could not be
pickled; one that lives in `lnauto.trainers` can.
"""

from lnauto.trainers.dgst import LNTrainerDGST
from lnauto.trainers.ignore import LNTrainerIgnore
from lnauto.trainers.joint import LNTrainerJoint
from lnauto.trainers.lntrainer import LNTrainer
from lnauto.trainers.partial import LNTrainerPartial
from lnauto.trainers.scribble import LNTrainerScribble
from lnauto.trainers.tuning import LNTrainerTune

__all__ = [
    "LNTrainer",
    "LNTrainerDGST",
    "LNTrainerIgnore",
    "LNTrainerJoint",
    "LNTrainerPartial",
    "LNTrainerScribble",
    "LNTrainerTune",
]
