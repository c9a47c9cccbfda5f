"""DICOM: series as volumes, SEG and RTSTRUCT as masks, and masks as SEG and RTSTRUCT."""
