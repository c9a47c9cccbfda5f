"""Whose a SEG or RTSTRUCT is: what it takes over from its images, to be filed with them."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from lnauto.dicom.listing import Series
from lnauto.errors import InputError

# of the patient and the study, what a SEG or RTSTRUCT must hold to be filed with its images; nothing else is taken over
IDENTITY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
FORMS: dict[str, Callable[[str], object]] = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
SEXES = ("M", "F", "O")
UTF_8 = "ISO_IR 192"


def identity_of(source: Dataset, series: Series) -> Dataset:
    """The identity in UTF-8; what the images lack or hold against the standard is empty, as the standard allows.

    Images are often less than the standard asks for, above all where somebody took names out of them.
    """
    if not series.study:
        what = "its images do not say which study they are of (StudyInstanceUID), so nothing can be filed with them"
        raise InputError.of(what, series.where, "fetch the whole series again from where it came from")
    found = Dataset()
    found.SpecificCharacterSet = source.get("SpecificCharacterSet")
    for keyword in IDENTITY:
        if keyword in source:
            found.add(source[keyword])
        else:
            setattr(found, keyword, "")
    found.decode()
    found.SpecificCharacterSet, found.StudyInstanceUID = UTF_8, series.study
    for keyword, form in FORMS.items():
        if not _has_form(found.get(keyword), form):
            setattr(found, keyword, "")
    if found.PatientSex not in SEXES:
        found.PatientSex = ""
    return found


def _has_form(value: str, form: Callable[[str], object]) -> bool:
    try:
        form(value)
    except ValueError:
        return False
    return True
