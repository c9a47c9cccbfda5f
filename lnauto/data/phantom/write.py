"""A phantom data set on disk: nnU-Net's raw layout, the tables, and the whole truth apart from both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lnauto.data.phantom import annotation as annotate
from lnauto.data.phantom.case import PhantomCase
from lnauto.data.phantom.optimum import posterior
from lnauto.data.phantom.patients import COLUMNS, Patient, known_stations, with_gaps
from lnauto.files import csv_text, write_json, write_text, writing

ENDING = ".nii.gz"
STATION_COLUMNS = ("patient", "station", "label")
NODE_COLUMNS = ("case", "node", "label", "station", "volume_mm3", "short_axis_mm", "long_axis_mm", "annotated")
OPTIMUM_COLUMNS = ("patient", "lnm", "optimum", "optimum_of_row", "short_axis_mm")
ANSWERS = ("lnm", "n_stage")  # what a test patient's row does not tell

Row = Mapping[str, object]


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the block ends well, and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{os.getpid()}.{out.name}"
    try:
        temporary.mkdir()
        yield temporary
        if out.is_dir():
            out.rmdir()  # empty, or make_phantom would have refused
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Writer:
    """Writes case after case, and keeps the rows of the tables until the end."""

    def __init__(self, folder: Path, annotation: str, fraction: float) -> None:
        self.folder = folder
        self.annotation = annotation
        self.fraction = fraction
        self.patients: list[Row] = []
        self.test_patients: list[Row] = []
        self.true_patients: list[Row] = []
        self.stations: list[Row] = []
        self.true_stations: list[Row] = []
        self.nodes: list[Row] = []
        self.optima: list[Row] = []

    def training_case(self, case: PhantomCase, rng: np.random.Generator) -> None:
        """`rng` is the annotator's: the picture is the same whatever the annotation."""
        known = set(known_stations(rng, list(case.stations)))
        known_patient = with_gaps(rng, case.patient)
        self.patients.append(known_patient.row)
        self.stations += [row for row in self._stations(case) if row["station"] in known]
        label, annotated = self._label(case, rng)
        self._image("imagesTr", case)
        if label is not None:
            self._save(label, case, "labelsTr", case.name)
        self._truth(case, "Tr", annotated, known_patient)

    def test_case(self, case: PhantomCase, rng: np.random.Generator) -> None:
        known_patient = with_gaps(rng, case.patient)
        self.test_patients.append({**known_patient.row, **dict.fromkeys(ANSWERS, "")})
        self._image("imagesTs", case)
        self._save(mask_of(case), case, "labelsTs", case.name)
        self._truth(case, "Ts", {node.number for node in case.nodes}, known_patient)

    def _label(self, case: PhantomCase, rng: np.random.Generator) -> tuple[Any, set[int]]:
        """The mask an annotator made, and the nodes that are in it."""
        every = {node.number for node in case.nodes}
        if self.annotation == "none":
            return None, set()
        if self.annotation == "full":
            return mask_of(case), every
        if self.annotation == "partial":
            volumes = np.array([node.volume_mm3 for node in case.nodes])
            chosen = set(annotate.partial(rng, volumes, self.fraction))
            return np.isin(case.instances, sorted(chosen)).astype(np.uint8), chosen
        return annotate.scribbles(rng, case.instances, case.image > -300), every

    def _stations(self, case: PhantomCase) -> list[dict[str, object]]:
        return [{"patient": case.name, "station": station, "label": label} for station, label in case.stations.items()]

    def _truth(self, case: PhantomCase, part: str, annotated: set[int], known: Patient) -> None:
        self._save(mask_of(case), case, f"truth/labels{part}", case.name)
        self._save(case.instances, case, "truth/nodes", case.name)
        self.true_patients.append(case.patient.row)
        self.true_stations += self._stations(case)
        self.optima.append(optimum_of(case, known))
        for node in case.nodes:
            measures = [round(value, 1) for value in (node.volume_mm3, node.short_axis_mm, node.long_axis_mm)]
            values = (case.name, node.number, int(node.metastatic), node.station, *measures, int(node.number in annotated))
            self.nodes.append(dict(zip(NODE_COLUMNS, values, strict=True)))

    def _image(self, folder: str, case: PhantomCase) -> None:
        self._save(case.image, case, folder, f"{case.name}_0000")

    def _save(self, array: np.ndarray, case: PhantomCase, folder: str, name: str) -> None:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(case.scan.spacing[::-1])
        image.SetOrigin(case.scan.origin)
        path = self.folder / folder / f"{name}{ENDING}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path):
            sitk.WriteImage(image, str(path), useCompression=True)

    def finish(self, declare: bool, made_by: Mapping[str, Any]) -> None:
        """The tables, `dataset.json`, and a note of what made it all."""
        write_json(self.folder / "dataset.json", self._description(declare, made_by))
        tables: list[tuple[str, Sequence[str], list[Row]]] = [
            ("patients.csv", COLUMNS, self.patients),
            ("stations.csv", STATION_COLUMNS, self.stations),
            ("truth/patients.csv", COLUMNS, self.true_patients),
            ("truth/stations.csv", STATION_COLUMNS, self.true_stations),
            ("truth/nodes.csv", NODE_COLUMNS, self.nodes),
            ("truth/optimum.csv", OPTIMUM_COLUMNS, self.optima),
        ]
        if self.test_patients:
            tables.append(("patientsTs.csv", COLUMNS, self.test_patients))
        for name, columns, rows in tables:
            write_text(self.folder / name, as_csv(columns, rows))

    def _description(self, declare: bool, made_by: Mapping[str, Any]) -> dict[str, Any]:
        labels = {"background": annotate.BACKGROUND, "node": annotate.NODE}
        if self.annotation == "scribble":
            labels["ignore"] = annotate.IGNORE
        description: dict[str, Any] = {
            "channel_names": {"0": "CT"},
            "labels": labels,
            "numTraining": len(self.patients),
            "file_ending": ENDING,
        }
        if self.annotation in ("scribble", "none") or declare:
            description["annotation"] = "patient" if self.annotation == "none" else self.annotation
        return {**description, "phantom": dict(made_by)}


def optimum_of(case: PhantomCase, known: Patient) -> Row:
    """What a head is judged against: the posterior that knows every value, that of the row with its gaps, and the short axis."""
    whole, row = (posterior(case.plan, case.placed, t_stage=who.t_stage, marker=who.marker) for who in (case.patient, known))
    short = max((node.short_axis_mm for node in case.nodes), default=0.0)
    values = (case.name, case.patient.lnm, *(float(f"{value:.6g}") for value in (whole, row)), round(short, 1))
    return dict(zip(OPTIMUM_COLUMNS, values, strict=True))


def mask_of(case: PhantomCase) -> np.ndarray:
    return (case.instances > 0).astype(np.uint8)


def as_csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    return csv_text([columns, *([row[column] for column in columns] for row in rows)])
