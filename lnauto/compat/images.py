"""nnU-Net's image reader, whose properties dictionary its exporter expects back."""

from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

__all__ = ["SimpleITKIO"]
