"""Validation on whole cases: a quick look while training, and the fold's figures at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from lnauto.data.scans import Grid, mask_on, turned, way_to_lie
from lnauto.data.trusted_background import as_drawn
from lnauto.evaluation.cases import ALL_NODES, CaseResult, evaluate_case
from lnauto.evaluation.labels import LabelScheme
from lnauto.evaluation.matching import total
from lnauto.files import replacing
from lnauto.inference.predictor import Predictor, smallest_node_mm3
from lnauto.trainers.truth import labels_of
from lnauto.trainers.yardstick import judged

if TYPE_CHECKING:
    from lnauto.trainers.lntrainer import LNTrainer

log = logging.getLogger(__name__)

QUICK_CASES = 4
EXPORT_SECONDS = 0.5  # a case, besides its tiles; only for the estimate of what validation will take


class NodeCheck:
    """Nodes found and invented in a few whole validation cases, in the plan's spacing, without overlap or mirroring; where nobody
    judged, nothing counts."""

    def __init__(self, trainer: LNTrainer) -> None:
        self.trainer = trainer
        _, validation = trainer.do_split()
        self.cases = sorted(validation)[:QUICK_CASES]

    def run(self) -> dict[str, Any] | None:
        trainer = self.trainer
        if not trainer.yardstick.counts_nodes:
            return None
        predictor = predictor_of(trainer, overlap=0.0)
        dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(self.cases))
        scheme = LabelScheme.of_description({**trainer.dataset_json, "instances": False})  # preprocessed masks number no nodes
        spacing = trainer.configuration_manager.spacing
        trainer.set_deep_supervision_enabled(False)
        matchings = []
        for name in self.cases:
            data, seg, _, _ = dataset.load_case(name)
            predicted = predictor.predict_grid(data[:])
            truth = np.maximum(np.asarray(seg[0]), 0)
            result = evaluate_case(truth, predicted, spacing, scheme, case=name)
            matchings += [result.nodes[ALL_NODES].counts] if ALL_NODES in result.nodes else []
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        counts = total(matchings)
        if counts.true == 0:
            return None
        false = counts.false / len(self.cases)
        return {"cases": len(self.cases), "recall": counts.recall, "false_per_case": false, "f1": counts.f1}


def scores_of_patches(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Loss and Dice over the batches of an epoch's end; None where no label is in any of them."""
    found, invented, missed = (np.sum([step[key] for step in steps], axis=0) for key in ("tp_hard", "fp_hard", "fn_hard"))
    with np.errstate(invalid="ignore"):
        dice = 2 * found / (2 * found + invented + missed)
    return {
        "val_loss": float(np.mean([step["loss"] for step in steps])),
        "dice": None if np.isnan(dice).all() else float(np.nanmean(dice)),
        "dice_per_label": [None if np.isnan(value) else float(value) for value in dice],
    }


def predictor_of(trainer: LNTrainer, overlap: float | None = None) -> Predictor:
    """The network as it stands, ready to predict."""
    assert trainer.compute is not None
    settings = trainer.plans_manager.plans.get("lnauto", {}).get("inference", {})
    return Predictor(
        networks=[trainer.deployed_network],
        plans=trainer.plans_manager,
        configuration=trainer.configuration_manager,
        dataset_json=trainer.dataset_json,
        compute=trainer.compute,
        mirror_axes=trainer.inference_allowed_mirroring_axes or (),
        tta="none" if overlap is not None else settings.get("tta", "full"),
        overlap=settings.get("overlap", 0.5) if overlap is None else overlap,
        smallest_node_mm3=smallest_node_mm3(trainer.plans_manager.plans),
        orientation=way_to_lie(trainer.plans_manager.plans),
    )


def validate_fold(trainer: LNTrainer) -> list[CaseResult]:
    """Masks of the fold's validation cases in `validation/`, and how they compare with what is known of the truth."""
    _, names = trainer.do_split()
    folder = Path(trainer.output_folder) / "validation"
    drawn = labels_of(Path(trainer.preprocessed_dataset_folder), names)
    predictor = predictor_of(trainer)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(names))
    scheme = LabelScheme.of_description(as_drawn(trainer.dataset_json))
    if not trainer.yardstick.counts_nodes:
        scheme = replace(scheme, nodes=())
    trusted = trainer.plans_manager.plans.get("lnauto", {}).get("trusted_background") is not None
    orientation = way_to_lie(trainer.plans_manager.plans)
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    results = []
    for name in tqdm(sorted(names), desc="Validation", unit="case", disable=trainer.options.quiet, delay=2):
        data, seg, _, properties = dataset.load_case(name)
        mask = predictor.predict_prepared(data[:], properties)
        folder.mkdir(parents=True, exist_ok=True)
        read = sitk.ReadImage(str(drawn[name]))
        with replacing(folder / f"{name}{trainer.dataset_json['file_ending']}") as temporary:
            sitk.WriteImage(mask_on(mask, properties, Grid.of(read)), str(temporary), True)
        truth, labels = turned(sitk.GetArrayFromImage(read).astype(np.int32), Grid.of(read), orientation), scheme
        if trusted:
            learned = np.asarray(seg[0])
            # Strokes lead to nodes where nobody drew any.
            unknown = learned == trainer.label_manager.ignore_label if trainer.yardstick.counts_nodes else learned != 0
            truth, labels = judged(truth, unknown, properties, trainer.plans_manager.transpose_backward, scheme)
        place = {key: properties["sitk_stuff"][key] for key in ("origin", "direction")}
        results.append(evaluate_case(truth, mask, properties["spacing"], labels, case=name, **place))
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    return results


def seconds_to_predict(trainer: LNTrainer) -> float:
    """What the network is to predict once it is trained, from the time of one tile and the number of tiles."""
    dataset, export = _to_predict(trainer)
    if not dataset.identifiers:
        return 0.0
    import torch

    predictor = predictor_of(trainer)
    patch = trainer.configuration_manager.patch_size
    image = torch.zeros((trainer.num_input_channels, *patch))
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    predictor.predict_grid(image.numpy())  # the first pass sets things up
    start = time.perf_counter()
    predictor.predict_grid(image.numpy())
    tile = time.perf_counter() - start
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    tiles = sum(predictor.count_tiles(dataset.load_case(name)[0].shape[1:]) for name in dataset.identifiers)
    return tiles * tile + len(dataset.identifiers) * export


def _to_predict(trainer: LNTrainer) -> tuple[Any, float]:
    """The cases, and the seconds each takes besides its tiles."""
    if trainer.material is not None and trainer.material.to_label is not None:
        return trainer.material.to_label, 0.0
    names = [] if trainer.fold == "all" else trainer.do_split()[1]
    return trainer.dataset_class(trainer.preprocessed_dataset_folder, names), EXPORT_SECONDS
