"""nnU-Net's set-up of one process for each GPU."""

from nnunetv2.run.run_training import cleanup_ddp, setup_ddp

__all__ = ["cleanup_ddp", "setup_ddp"]
