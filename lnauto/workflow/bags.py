"""Patients' bags from raw cases and masks, for training and for use alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lnauto.data.region import region_of
from lnauto.data.scans import way_to_lie
from lnauto.evaluation.labels import LabelScheme
from lnauto.planners.plan import Plan, hash_of

if TYPE_CHECKING:
    from lnauto.trainers.patient.bag import Bag
    from lnauto.trainers.patient.crops import CropPlan, Scene
    from lnauto.workflow.blocks import BlockStore


@dataclass(frozen=True, eq=False)
class Grid:
    """Where a prepared image lies."""

    to_mm: NDArray[np.float64]  # as in Scene
    shape: tuple[int, ...]


@dataclass
class BagMaker:
    """Reads cases as the plan prepares them; what was read once is kept."""

    plan: Plan
    description: dict[str, Any]
    configuration: str
    crops: CropPlan
    quiet: bool = False
    keep: bool = True  # bags of the same case and mask, for the next fold
    made: dict[tuple[str, tuple[Path | None, ...]], Bag] = field(default_factory=dict)
    on_blocks: bool = False  # of the region, since there are no masks
    store: BlockStore | None = None  # of blocks that were cut before
    grids: dict[str, Grid] = field(default_factory=dict)  # of cases whose blocks were cut here
    numbered: bool = False  # each value of a mask is a node of its own, as in given masks of instances

    @classmethod
    def of_plan(
        cls, plan: Plan, description: dict[str, Any], configuration: str, quiet: bool = False, numbered: bool = False
    ) -> BagMaker:
        from lnauto.trainers.patient.crops import BLOCKS, CropPlan

        if plan.on_blocks:
            return cls(plan, description, configuration, BLOCKS, quiet, on_blocks=True)
        spacing = plan.configuration(configuration)["spacing"]
        axes = plan.lnauto["evidence"]["node_long_axis_mm"]["value"]
        crops = CropPlan.of(axes[-1:] if axes else [], spacing)
        return cls(plan, description, configuration, crops, quiet, numbered=numbered)

    @property
    def made_of(self) -> str:
        """What a bag depends on besides the scans and masks, as a short hash."""
        return hash_of([self.plan.image_hash(self.configuration), repr(self.crops), way_to_lie(self.plan.content)])

    def bags(
        self,
        cases_of: Mapping[str, Sequence[str]],
        images: Mapping[str, Sequence[Path]],
        masks: Mapping[str, Path],
        rows: Mapping[str, Mapping[str, Any]],
        labels: Mapping[str, int],
    ) -> list[Bag]:
        """A bag for each patient of `cases_of`; a case without a mask has no node."""
        from dataclasses import replace

        found = []
        for patient, cases in tqdm(cases_of.items(), desc="Reading nodes", unit="patient", disable=self.quiet, delay=2):
            key = (patient, tuple(masks.get(case) for case in cases))
            bag = self.made.get(key) or self._bag(patient, cases, images, masks)
            if self.keep:
                self.made[key] = bag
            found.append(replace(bag, row=dict(rows.get(patient, {})), label=labels.get(patient)))
        return found

    def _bag(self, patient: str, cases: Sequence[str], images: Mapping[str, Sequence[Path]], masks: Mapping[str, Path]) -> Bag:
        from lnauto.trainers.patient.crops import bag_of
        from lnauto.workflow.blocks import joined

        if self.on_blocks:
            kept = [self.store.load(case) if self.store is not None else None for case in cases]
            bags = [bag or self.blocks(case, images[case]) for bag, case in zip(kept, cases, strict=True)]
            return joined(patient, bags)
        scenes = [self.scene(case, images[case], masks.get(case)) for case in cases]
        return bag_of(patient, scenes, self.crops, {}, None)

    def blocks(self, case: str, images: Sequence[Path]) -> Bag:
        """One case cut into blocks."""
        from lnauto.trainers.patient.crops import region_bag

        scene = self.scene(case, images, None)
        self.grids[case] = Grid(scene.to_mm, scene.image.shape[1:])
        return region_bag(case, [scene], self.crops, {}, None, with_view=False)

    def look(
        self,
        cases_of: Mapping[str, Sequence[str]],
        images: Mapping[str, Sequence[Path]],
        masks: Mapping[str, Path],
        device: str | None,
        precision: str,
    ) -> Callable[[Path, Sequence[Bag]], list[Bag]]:
        """What gives these patients' bags the features that a network, a checkpoint, has of their nodes."""

        def look(checkpoint: Path, bags: Sequence[Bag]) -> list[Bag]:
            from lnauto.inference.component_features import component_features, component_numbers
            from lnauto.inference.model import load_alone
            from lnauto.networks.compute import choose_compute, find_device
            from lnauto.networks.mask_gate import NodeOutputs
            from lnauto.trainers.patient.mask_gate import with_features

            model = load_alone(checkpoint)
            patch = model.plans["configurations"][model.configuration]["patch_size"]
            network = model.load_network(0)
            compute = choose_compute(network, model.channels, list(patch), find_device(device), precision)
            network = compute.prepare(network)
            nodes = NodeOutputs.of_description(self.description)
            found = []
            for bag in tqdm(bags, desc="Looking at nodes", unit="patient", disable=self.quiet, delay=2):
                seen = {}
                for case in cases_of[bag.patient]:
                    scene = self.scene(case, images[case], masks.get(case))
                    numbers = component_numbers(scene.instances)
                    vectors = component_features(network, nodes, scene.image, scene.instances, patch, compute)
                    seen[case] = (numbers, vectors)
                found.append(with_features(bag, seen))
            return found

        return look

    def scene(self, case: str, images: Sequence[Path], mask: Path | None) -> Scene:
        from lnauto.compat.plans import read_plans
        from lnauto.trainers.patient.scenes import read_scene

        manager = read_plans(self.plan.content)
        scheme = None if mask is None else LabelScheme.of_description(self.description)
        nodes = [value for label in scheme.nodes for value in label.values] if scheme is not None else []
        return read_scene(
            case,
            images,
            mask,
            manager,
            manager.get_configuration(self.configuration),
            region_of(self.plan.content),
            nodes,
            self.numbered,
            orientation=way_to_lie(self.plan.content),
        )
