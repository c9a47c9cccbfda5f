"""One round's pseudo labels: two networks label the cases, the best agreed on are kept, and what came of it is written down."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lnauto.data.gathered import Gathered, store_label
from lnauto.data.preprocess import case_files
from lnauto.files import csv_text, read_json, write_json, write_text
from lnauto.nodes import label_components
from lnauto.trainers.agreement import KEEP, agreement, keep_best, pseudo_labels
from lnauto.workflow.round_cases import RoundCases

if TYPE_CHECKING:
    import torch

    from lnauto.inference.predictor import Predictor

log = logging.getLogger(__name__)

COLUMNS = ("case", "annotation", "agreement", "kept", "nodes_added", "added_mm3")
MEANING = "Dice of the two labellers' masks in the voxels of which nothing is known, neither by drawing nor as trusted background"


class Round:
    """The folder of one round: its labellers, its labels, and the table of agreement."""

    def __init__(self, folder: Path, cases: RoundCases) -> None:
        self.folder = folder
        self.cases = cases
        self.labels = folder / "labels"
        self.table = folder / "agreement.json"
        self.begun = folder / "labelled.json"  # while it goes on

    def labeller(self, number: int) -> Path:
        return self.folder / f"labeller_{number}"

    @property
    def training(self) -> list[str]:
        """The cases the next networks train on: every annotated one, and those without annotation that were kept."""
        rows = read_json(self.table, "start anew with --overwrite")["cases"]
        kept = {row["case"] for row in rows if row["kept"]}
        return sorted([*self.cases.annotated, *(kept & set(self.cases.unannotated))])

    @property
    def finished(self) -> bool:
        return self.table.is_file() and all((self.labels / f"{name}.pkl").is_file() for name in self.training)

    def label(self, labellers: Mapping[Path, Sequence[str]], device: torch.device, precision: str, quiet: bool) -> None:
        """Label, keep, write; `labellers` are two checkpoints and the cases they were trained on.

        A case that was labelled before a kill is not labelled again.
        """
        predictors = [_predictor(path, device, precision) for path in labellers]
        rows: dict[str, dict[str, Any]] = read_json(self.begun, "start anew with --overwrite") if self.begun.is_file() else {}
        source = self.cases.gathered(self.cases.to_label)
        for name in tqdm(source.identifiers, desc="Labelling", unit="case", disable=quiet, delay=2):
            if name not in rows or not (self.labels / f"{name}.pkl").is_file():
                rows[name] = self._label_case(name, source, predictors)
                write_json(self.begun, rows)
        kept = keep_best({name: math.nan if row["agreement"] is None else row["agreement"] for name, row in rows.items()})
        self._restore(set(self.cases.annotated) - set(kept), predictors[0])
        for name in set(self.cases.unannotated) - set(kept):
            for path in case_files(self.labels / name):
                path.unlink(missing_ok=True)
        self._write(rows, kept, labellers)
        self.begun.unlink()

    def _label_case(self, name: str, source: Gathered, predictors: Sequence[Predictor]) -> dict[str, Any]:
        data, seg, _, properties = source.load_case(name)
        image, ignore = data[:], predictors[0].labels.ignore_label
        own = np.full((1, *image.shape[1:]), ignore) if seg is None else np.asarray(seg[:])
        first, second = (predictor.predict_grid(image) for predictor in predictors)
        filled = pseudo_labels(own[0], first, second, ignore)
        self._store(name, filled[None], properties, predictors[0])
        added = (own[0] == ignore) & (filled > 0) & (filled != ignore)
        score = agreement(first, second, own[0] == ignore)
        voxel = float(np.prod(predictors[0].configuration.spacing))
        return {
            "annotation": "none" if name in self.cases.unannotated else "part",
            "agreement": score if math.isfinite(score) else None,
            "nodes_added": label_components(added)[1],
            "added_mm3": round(int(added.sum()) * voxel, 1),
        }

    def _restore(self, names: set[str], predictor: Predictor) -> None:
        """Cases that are not kept have their own labels."""
        source = self.cases.gathered(sorted(names))
        for name in source.identifiers:
            _, seg, _, properties = source.load_case(name)
            self._store(name, np.asarray(seg[:]), properties, predictor)

    def _store(self, name: str, label: np.ndarray, properties: Mapping[str, Any], predictor: Predictor) -> None:
        labels = predictor.labels
        classes = list(labels.foreground_regions if labels.has_regions else labels.foreground_labels)
        known = [-1, *labels.all_labels]
        store_label(self.labels, name, label, properties, predictor.configuration.patch_size, [*classes, known])

    def _write(self, rows: Mapping[str, dict[str, Any]], kept: Sequence[str], labellers: Mapping[Path, Sequence[str]]) -> None:
        listed = [{"case": name, "kept": name in kept, **rows[name]} for name in sorted(rows)]
        made_by = {str(path.relative_to(self.folder.parent)): list(names) for path, names in labellers.items()}
        lines: list[list[Any]] = [[*COLUMNS, "labeller_1", "labeller_2"]]
        for row in listed:
            score = "" if row["agreement"] is None else f"{row['agreement']:.4f}"
            shown = {**row, "agreement": score, "kept": int(row["kept"])}
            lines.append([*(shown[column] for column in COLUMNS), *made_by])
        write_text(self.table.with_suffix(".csv"), csv_text(lines))
        content = {"agreement_is": MEANING, "share_kept": KEEP, "labelled": len(listed), "kept": len(kept)}
        networks = [{"checkpoint": path, "trained_on": names} for path, names in made_by.items()]
        write_json(self.table, {**content, "labellers": networks, "cases": listed})
        self._tell(listed)

    def _tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        kept = [row for row in rows if row["kept"]]
        silent = sum(row["agreement"] is None for row in rows)
        scores = [row["agreement"] for row in kept]
        spread = f", agreement {min(scores):.2f} to {max(scores):.2f}" if scores else ""
        nothing = f"; in {silent} neither labeller found a node" if silent else ""
        log.info("%d of %d labelled cases are kept%s%s.", len(kept), len(rows), spread, nothing)
        log.info(
            "They add %d nodes to what is drawn: %s", sum(row["nodes_added"] for row in kept), self.table.with_suffix(".csv")
        )


def _predictor(checkpoint: Path, device: torch.device, precision: str) -> Predictor:
    from lnauto.inference.model import load_alone
    from lnauto.inference.predictor import Predictor

    return Predictor.of_model(load_alone(checkpoint), device, precision)
