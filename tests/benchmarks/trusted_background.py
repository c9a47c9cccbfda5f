"""How much of the nodes that nobody drew is taken for background, and how much background there is to learn from.

python tests/benchmarks/trusted_background.py [--semireal FOLDER] [--likeness]
python tests/benchmarks/trusted_background.py --likeness --seeds 20 21 22 23 24 25 26 27 28 29     # how well places are ranked
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from sklearn.metrics import average_precision_score

from lnauto.compat.images import SimpleITKIO
from lnauto.data.coarse_maps import read_map, write_map
from lnauto.data.phantom import make_phantom
from lnauto.data.raw import RawDataset
from lnauto.data.region import find_region
from lnauto.data.trusted_background import REASONS, reasons
from lnauto.planners.case_facts import look_at
from lnauto.planners.completeness import estimate_completeness, score_cases
from lnauto.planners.completeness.maps import likeness_maps
from lnauto.planners.region import choose_region
from lnauto.planners.trust import choose_trust

CASES = 6
LIKENESS_SETS = [("a", 201, 0.15), ("a", 202, 0.3), ("a", 203, 0.5), ("b", 204, 0.3)]
SETS = [(style, seed, size, part) for style in "ab" for seed, size, part in ((101, 64, 0.2), (102, 96, 0.35), (103, 128, 0.5))]


def measure(folder: Path, numbers_of: Callable[[str], Path]) -> None:
    """Print a line for a data set whose nodes, drawn or not, are numbered in files named by `numbers_of`."""
    dataset = RawDataset.read(folder)
    facts = [look_at(dataset, case, 0) for case in dataset.cases]
    trust, _ = choose_trust(dataset, facts, "partial_instance", choose_region(facts)[0])
    assert trust is not None
    undrawn, tissue, everything, worst = [], [], [], [0.0]
    for case in dataset.cases:
        image, properties = SimpleITKIO().read_images([str(path) for path in case.images])
        drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(case.label))) > 0
        numbers = sitk.GetArrayFromImage(sitk.ReadImage(str(numbers_of(case.name))))
        spacing = properties["spacing"]
        box = find_region(image[0], spacing, properties["sitk_stuff"]["direction"], trust.region)
        why = reasons(image, drawn, spacing, trust, box)
        missed = (numbers > 0) & ~drawn
        undrawn.append(why[missed])
        worst += [float((why[missed & (numbers == number)] > 0).mean()) for number in np.unique(numbers[missed])]
        tissue.append(why[(image[0] > -300) & (why != REASONS.index("region"))])
        everything.append(why.ravel())
    trusted = [float((np.concatenate(part) > 0).mean()) for part in (undrawn, everything, tissue)]
    shares = np.bincount(np.concatenate(everything), minlength=len(REASONS)) / sum(map(len, everything))
    named = ", ".join(f"{name} {share:.1%}" for name, share in zip(REASONS, shares, strict=True) if share >= 0.0005)
    print(
        f"{folder.name}: trusted of {len(worst) - 1} nodes nobody drew {trusted[0]:.2%} (worst {max(worst):.0%}), of all voxels "
        f"{trusted[1]:.0%}, of tissue in the {trust.region} {trusted[2]:.0%}; {named}"
    )


def measure_likeness(folder: Path, numbers_of: Callable[[str], Path]) -> float:
    """Print what likeness adds to the other rules, and what begins as a node; how well it ranks what those leave unknown."""
    dataset = RawDataset.read(folder)
    facts = [look_at(dataset, case, 0) for case in dataset.cases]
    scores = score_cases(dataset, facts, quiet=True)
    completeness = estimate_completeness(scores)
    maps = list(likeness_maps(dataset, facts, scores, quiet=True))
    undrawn_ml = sum(found.undrawn_ml for found in maps)
    share = completeness.value if completeness else None
    trust, _ = choose_trust(dataset, facts, "partial_instance", choose_region(facts)[0], undrawn_ml, share)
    assert trust is not None
    before, after, missed, likely, lost, ranked, truth = [], [], [], [], [], [], []
    for found in maps:
        case = found.case
        image, properties = SimpleITKIO().read_images([str(path) for path in case.images])
        drawn = sitk.GetArrayFromImage(sitk.ReadImage(str(case.label))) > 0
        numbers = sitk.GetArrayFromImage(sitk.ReadImage(str(numbers_of(case.name))))
        box = find_region(image[0], properties["spacing"], properties["sitk_stuff"]["direction"], trust.region)
        write_map(found.per_cent, found.spacing, case.images[0], folder / "map.nii.gz")
        likeness = read_map(folder / "map.nii.gz", case.images[0])
        why = reasons(image, drawn, properties["spacing"], trust, box, likeness=likeness)
        unknown, undrawn = (why == 0) & ~drawn, (numbers > 0) & ~drawn
        otherwise = unknown | ((why == REASONS.index("unlike")) & ~drawn)
        ranked.append(likeness[otherwise])
        truth.append(undrawn[otherwise])
        before.append(otherwise.ravel())
        after.append(unknown.ravel())
        missed.append(why[undrawn] > 0)
        lost += [(why[undrawn & (numbers == number)] > 0).mean() > 0.5 for number in np.unique(numbers[undrawn])]
        if trust.likely_from is not None:
            likely.append(undrawn[unknown & (likeness >= trust.likely_from)])
    right, voxels = np.concatenate(likely) if likely else np.zeros(0), np.concatenate(missed)
    precision = float(average_precision_score(np.concatenate(truth), np.concatenate(ranked)))
    print(
        f"{folder.name}: drawn {share}; unknown {np.concatenate(before).mean():.1%} of all voxels without likeness, "
        f"{np.concatenate(after).mean():.1%} with it; trusted of {len(lost)} nodes nobody drew {voxels.mean():.1%} of the "
        f"voxels, of {np.mean(lost):.0%} of them most; likely from {trust.likely_from}: "
        f"{right.mean() if right.size else 0:.0%} of it is node, {right.sum() / voxels.size:.0%} of their voxels; "
        f"average precision {precision:.3f}",
        flush=True,
    )
    return precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semireal", type=Path, help="a raw data set drawn in part, with all nodes numbered in nodesTr")
    parser.add_argument("--likeness", action="store_true", help="measure what likeness adds, on phantoms of 16 cases")
    parser.add_argument("--seeds", nargs="+", type=int, help="of phantoms of style a, 30 %% drawn, for --likeness")
    options = parser.parse_args()
    if options.likeness:
        sets = [("a", seed, 0.3) for seed in options.seeds] if options.seeds else LIKENESS_SETS
        found = []
        with tempfile.TemporaryDirectory() as root:
            for style, seed, part in sets:
                folder = Path(root) / f"Dataset{seed:03d}_Style{style.upper()}"
                make_phantom(folder, cases=16, annotation="partial", fraction=part, size=64, seed=seed, style=style, quiet=True)
                numbers = folder / "truth/nodes"
                found.append(measure_likeness(folder, lambda case, numbers=numbers: numbers / f"{case}.nii.gz"))  # type: ignore[misc]
        print(f"average precision {np.mean(found):.3f}, mean of {len(found)}")
        return
    with tempfile.TemporaryDirectory() as root:
        for style, seed, size, part in SETS:
            folder = Path(root) / f"Dataset{seed}_Style{style.upper()}"
            make_phantom(folder, cases=CASES, annotation="partial", fraction=part, size=size, seed=seed, style=style, quiet=True)
            measure(folder, lambda case, truth=folder / "truth/nodes": truth / f"{case}.nii.gz")  # type: ignore[misc]
    if options.semireal:
        measure(options.semireal, lambda case: options.semireal / f"nodesTr/{case}.nii.gz")


if __name__ == "__main__":
    main()
