"""Pre-training on all images, labelled or not: done once for a network and a set of images, and used by every fold."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto.data.preprocess import image_file, provenance_path
from lnauto.data.provenance import Provenance
from lnauto.data.raw import RawDataset
from lnauto.errors import InputError
from lnauto.locks import locked
from lnauto.paths import Paths
from lnauto.planners.plan import Plan, hash_of
from lnauto.planners.pretraining import SHARE
from lnauto.workflow.fold import SHORTEST_SECONDS, Request, length_of, workers_for
from lnauto.workflow.plan import bring_images_up_to_date, unannotated_folder

if TYPE_CHECKING:
    from lnauto.trainers.pretraining import LNPretraining
    from lnauto.trainers.schedule import Length

log = logging.getLogger(__name__)


def pretrain(
    plan: Plan,
    description: dict[str, Any],
    dataset: RawDataset | None,
    request: Request,
    paths: Paths,
    seconds: float | None,
    folds: int,
) -> Path:
    """The pre-trained weights: those that are there, if they are of these images and this network; else new ones.

    `seconds` is what the whole command has for this and for the training of so many folds.
    """
    from lnauto.inference.model import load_checkpoint
    from lnauto.trainers.checkpoint import LATEST
    from lnauto.trainers.pretraining import PRETRAINED

    if dataset is not None:
        bring_images_up_to_date(dataset, plan, request.configuration, paths, request.quiet)
    images, made_of = _images(plan, request.configuration, paths, dataset)
    folder = (
        paths.results / plan.content["dataset_name"] / f"LNPretraining__{plan.content['plans_name']}__{request.configuration}"
    )
    folder = folder / "fold_all"
    with locked(folder):
        there = {path.name: load_checkpoint(path) for path in (folder / PRETRAINED, folder / LATEST) if path.is_file()}
        fitting = {name: one for name, one in there.items() if one["lnauto"]["more"].get("made_of") == made_of}
        if PRETRAINED in fitting:
            log.info("The pre-training that is there is used again (%d iterations).", fitting[PRETRAINED]["lnauto"]["iteration"])
            return folder / PRETRAINED
        found = fitting.get(LATEST)  # one that is being made anew, maybe, while the earlier one is still there
        if there and found is None:
            log.info("The pre-training that is there was made with other images or another network; it is made anew.")
        trainer = _trainer(plan, description, request, found, seconds, folds)
        trainer.images, trainer.made_of = list(images.values()), made_of
        if found is None:
            (folder / LATEST).unlink(missing_ok=True)
            trainer.initialize()
        else:
            trainer.load_checkpoint(found)
            log.info("Pre-training goes on from iteration %d.", trainer.clock.iteration)
        log.info("Pre-training on %d images, of which no label is read.", len(images))
        trainer.run_training()
        log.info("Pre-trained: %d iterations in %.0f s.", trainer.clock.iteration, trainer.clock.seconds)
        return folder / PRETRAINED


def _trainer(
    plan: Plan, description: dict[str, Any], request: Request, found: dict[str, Any] | None, seconds: float | None, folds: int
) -> LNPretraining:
    from lnauto.networks.compute import find_device
    from lnauto.trainers.options import Options
    from lnauto.trainers.pretraining import LNPretraining
    from lnauto.trainers.schedule import Length

    if found is None:
        length, seed = _length(plan, request, seconds, folds), request.seed
    else:
        length, seed = Length(**found["lnauto"]["length"]), found["lnauto"]["seed"]
    device = find_device(request.device)
    workers = workers_for(device.type, length) if request.workers is None else request.workers
    trainer = LNPretraining(plan.content, request.configuration, "all", description, device)
    trainer.configure(Options(length, seed, request.precision, workers, quiet=request.quiet, track=request.track))
    return trainer


def _length(plan: Plan, request: Request, seconds: float | None, folds: int) -> Length:
    """The share that the plan says, or ours, of what a fold gets."""
    share = (plan.lnauto.get("pretraining") or {"share": SHARE})["share"]
    fold = length_of(plan, request)
    if fold.iterations is not None:
        iterations = max(round(share * fold.iterations), 1)
        return replace(fold, iterations=iterations, iterations_per_epoch=min(fold.iterations_per_epoch, iterations))
    assert fold.seconds is not None
    own = share * fold.seconds if seconds is None else seconds * share / (share + folds)
    if own < SHORTEST_SECONDS:
        remedy = f"give at least {SHORTEST_SECONDS * (share + folds) / share / 60 + 1:.0f}min, or leave --pretrain out"
        raise InputError.of(f"the budget leaves {max(own, 0):.0f} s for pre-training", "--budget", remedy)
    return replace(fold, seconds=own)


def _images(plan: Plan, configuration: str, paths: Paths, dataset: RawDataset | None) -> tuple[dict[str, Path], str]:
    """Every preprocessed image by its case, and the hash of all that a pre-training depends on."""
    chosen = plan.configuration(configuration)
    labelled = paths.preprocessed / plan.content["dataset_name"] / chosen["data_identifier"]
    unlabelled = unannotated_folder(labelled)
    made = {folder: Provenance(provenance_path(folder)).cases for folder in (unlabelled, labelled)}
    if dataset is not None:
        place = {case.name: labelled if case.label else unlabelled for case in dataset.cases}
    else:
        place = {case: folder for folder, cases in made.items() for case in cases}
    channels = len(chosen["normalization_schemes"])
    sources = {case: made[folder][case]["sources"][:channels] for case, folder in sorted(place.items())}  # a label comes last
    depends_on = {
        "images": {case: [source["digest"] for source in files] for case, files in sources.items()},
        "preprocessing": plan.image_hash(configuration),
        "architecture": chosen["architecture"],
        "patch": chosen["patch_size"],
    }
    return {case: image_file(place[case] / case) for case in sources}, hash_of(depends_on)
