"""PET in Bq/ml to SUV by body weight, as QIBA's profile describes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from lnauto.errors import InputError

LEAST_DOSE = 1e5  # Bq; no patient is given less, so a smaller number was written in MBq
LONGEST_UPTAKE = timedelta(hours=24)
MOST_HALF_LIVES = 5  # of uptake: 3 % of the dose are left, too little for a scan
LONGEST_OVER_MIDNIGHT = timedelta(hours=6)  # where nobody wrote the day of the injection: else its clock went wrong
HOURS_END = len("YYYYMMDDHH")
SAME_TIME = timedelta(minutes=1)


def suv_factor(datasets: Sequence[Dataset], where: str) -> float:
    """What the values of a PET series are multiplied by to give SUVbw; 1 if they are SUV already."""
    first = datasets[0]
    units = str(first.get("Units") or "")
    if units == "GML" and str(first.get("SUVType") or "BW") == "BW":
        return 1.0
    if units != "BQML":
        what = f"this PET is given in units of {units or '(not said)'}, from which SUV by body weight cannot be computed"
        raise InputError.of(what, where, "export it in BQML, or in GML with SUVType BW")
    corrected = str(first.get("DecayCorrection") or "")
    missing = list(_missing(first, corrected))
    if missing:
        what = f"SUV cannot be computed: the header lacks {', '.join(missing)}"
        raise InputError.of(what, where, "export it with these fields, or as SUV (units GML)")
    if corrected not in ("START", "ADMIN"):
        what = f"this PET's decay is corrected to {corrected}, from which SUV cannot be computed"
        raise InputError.of(what, where, "export it with its decay corrected to START or ADMIN")
    drug = first.RadiopharmaceuticalInformationSequence[0]
    dose, half_life = float(drug.RadionuclideTotalDose), timedelta(seconds=float(drug.RadionuclideHalfLife or 1))
    if dose < LEAST_DOSE:
        what = f"the injected dose is given as {dose:g} Bq, which no patient gets; it seems to be in MBq"
        raise InputError.of(what, where, "correct RadionuclideTotalDose, which is in Bq")
    if corrected == "START":
        start = _scan_start(datasets)
        dose *= 2 ** -(_uptake(_injected(first, start, where), start, half_life, where) / half_life)
    return float(first.PatientWeight) * 1000 / dose


def _missing(first: Dataset, corrected: str) -> Iterator[str]:
    """Names of the fields that are needed and not there; a zero is none."""
    drugs = first.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    if not first.get("PatientWeight"):
        yield "PatientWeight"
    if not corrected:
        yield "DecayCorrection"
    if not drugs[0].get("RadionuclideTotalDose"):
        yield "RadionuclideTotalDose"
    if corrected != "START":
        return
    if not drugs[0].get("RadionuclideHalfLife"):
        yield "RadionuclideHalfLife"
    if not drugs[0].get("RadiopharmaceuticalStartDateTime") and not drugs[0].get("RadiopharmaceuticalStartTime"):
        yield "RadiopharmaceuticalStartTime"
    if not (first.get("AcquisitionDate") and first.get("AcquisitionTime")) and not (
        first.get("SeriesDate") and first.get("SeriesTime")
    ):
        yield "AcquisitionDate and AcquisitionTime"


def _scan_start(datasets: Sequence[Dataset]) -> datetime:
    """The time of the series, unless it is later than an acquisition, as after processing; then the first acquisition."""
    acquired = [moment for dataset in datasets if (moment := _moment(dataset, "Acquisition"))]
    series = _moment(datasets[0], "Series")
    earliest = min(acquired) if acquired else None
    if series and (earliest is None or series <= earliest):
        return series
    return earliest or datetime.min


def _moment(dataset: Dataset, what: str) -> datetime | None:
    day, time = dataset.get(f"{what}Date"), dataset.get(f"{what}Time")
    return _parsed(f"{day}{time}") if day and time else None


def _injected(first: Dataset, start: datetime, where: str) -> datetime:
    """With a date of its own, or with the scan's; the day before if that is after a scan soon after midnight."""
    drug = first.RadiopharmaceuticalInformationSequence[0]
    written, time = str(drug.get("RadiopharmaceuticalStartDateTime") or ""), drug.get("RadiopharmaceuticalStartTime")
    if not written:
        today = _parsed(f"{start:%Y%m%d}{time}")
        yesterday = today - timedelta(days=1)
        return yesterday if today > start and start - yesterday <= LONGEST_OVER_MIDNIGHT else today
    if len(_digits(written)[0]) < HOURS_END:
        what = f"SUV cannot be computed: RadiopharmaceuticalStartDateTime ({written}) says no time of day"
        raise InputError.of(what, where, "write date and time of the injection into it, or export it as SUV (units GML)")
    injected = _parsed(written)
    if time and abs(_parsed(f"{injected:%Y%m%d}{time}") - injected) > SAME_TIME:
        what = f"SUV cannot be computed: the injection is at {written} by one field and at {time} by another"
        raise InputError.of(what, where, "correct RadiopharmaceuticalStartDateTime or RadiopharmaceuticalStartTime")
    return injected


def _parsed(text: str) -> datetime:
    digits, fraction = _digits(text)
    return datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S") + timedelta(seconds=float(f"0.{fraction or 0}"))


def _digits(text: str) -> tuple[str, str]:
    """DICOM's date and time as far as seconds, and their fraction; a zone, which the other times lack, is left out."""
    digits, _, fraction = text.split("+")[0].split("-")[0].strip().partition(".")
    return digits, fraction


def _uptake(injected: datetime, start: datetime, half_life: timedelta, where: str) -> timedelta:
    uptake = start - injected
    remedy = "correct the times of injection and scan; anonymising may have changed one date only"
    if uptake < timedelta(0):
        what = f"SUV cannot be computed: the injection ({injected}) is after the start of the scan ({start})"
        raise InputError.of(what, where, remedy)
    if uptake > min(LONGEST_UPTAKE, MOST_HALF_LIVES * half_life):
        what = f"SUV cannot be computed: the injection ({injected}) is {uptake} before the scan ({start})"
        raise InputError.of(what, where, f"{remedy}; RadionuclideHalfLife is in seconds ({half_life.total_seconds():g} here)")
    return uptake
