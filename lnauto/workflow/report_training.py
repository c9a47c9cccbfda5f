"""`report.html`, `report.json` and checklists of a model's folder: how it was planned, trained and validated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.files import ANY, misfit, read_json
from lnauto.planners.plan import Plan
from lnauto.workflow.checklists import checklists_of, folds_of, write_checklists
from lnauto.workflow.evaluate import JSON_NAME, plain
from lnauto.workflow.page_files import write_page
from lnauto.workflow.pooled import is_of_these

if TYPE_CHECKING:
    from lnauto.report.training_page import Look

PAGE = "report.html"
PLANS, DESCRIPTION, HISTORY, VALIDATION, PATIENTS = "plans.json", "dataset.json", "history.json", "validation", "patients.json"
OF_NETWORK = (HISTORY, "checkpoint_final.pth")  # a fold may hold a patient head alone
AGAIN = "train or validate again with lnauto_train"
ALL = "all folds"
TWICE = "A case is validated in more than one fold, so that the folds are not taken together; by size its nodes count in each."
SEEN = "Some cases are on both sides of a fold, so that its figures say nothing about new ones."
PLACES = ("", "second", "third", "fourth", "fifth")
MOST_LOOKED_AT, BEST = 5, 2  # cases with pictures, and how many of these are the best ones


@dataclass
class Names:
    """What cases are called on the page."""

    anonymous: bool
    given: dict[str, str] = field(default_factory=dict)

    def of(self, case: str) -> str:
        return self.given.setdefault(case, f"case {len(self.given) + 1}") if self.anonymous else case


def is_training(folder: Path) -> bool:
    """Whether this is what `lnauto_train` left."""
    return (folder / PLANS).is_file() and any(path.is_dir() for path in folder.glob("fold_*"))


def report_training(folder: Path, anonymous: bool = False, quiet: bool = False, paper: bool = False) -> Path:
    """Write the page of a model's folder, and its figures; returns where the page is.

    Args:
        anonymous: cases are numbered instead of named, and no path is told.
        paper: also its tables and figures, in `paper/`.
    """
    from tqdm import tqdm

    from lnauto.report.training_page import training_page
    from lnauto.workflow.case_pictures import Wanted, looks_of, raw_of

    names = Names(anonymous)
    figures = training_figures(folder, names)
    each = figures["validation"]["each_case"] if figures["validation"] is not None else []
    real = {shown: case for case, shown in names.given.items()}
    wanted = [
        Wanted(real.get(case["case"], case["case"]), case["case"], case["fold"], why)
        for case, why in _worst_and_best(each, figures)
    ]
    looks: Iterable[Look] = ()
    figures["looks"] = "There is no case to look at."
    if wanted:
        dataset, missing = raw_of(figures["dataset"])
        figures["looks"] = _told(wanted, each) + (f" {missing}" if missing else "")
        looks = looks_of(wanted, folder, dataset) if dataset is not None else ()
    figures["looked_at"] = [one.shown for one in wanted] if looks != () else []
    figures["dataset"] = None if anonymous else figures["dataset"]
    with tqdm(looks, total=len(figures["looked_at"]), desc="Drawing", unit="case", disable=quiet, delay=2) as bar:
        looked_at = list(bar)
    figures["looked_at_nodes"] = [{"case": look.case, "nodes": look.figures} for look in looked_at]
    where = write_page(training_page(figures, looked_at), plain(figures), folder / PAGE, paper)
    write_checklists(folder, figures["checklists"])
    return where


def training_figures(folder: Path, names: Names) -> dict[str, Any]:
    """Everything that the page shows in numbers and words."""
    from lnauto.trainers.yardstick import COMPLETE, yardstick_of

    plan = Plan.load(folder / PLANS, AGAIN)
    description = read_json(folder / DESCRIPTION, AGAIN) if (folder / DESCRIPTION).is_file() else {}
    yardstick = yardstick_of(plan.content, description) if "labels" in description else COMPLETE
    folds = _folds(folder)
    evaluated = {fold: path for fold in folds if (path := folder / f"fold_{fold}" / VALIDATION / JSON_NAME).is_file()}
    validation = _validation(evaluated, plan, names, _parts_of_others(description)) if evaluated else None
    if validation is not None and yardstick.told:
        validation["notes"].append(f"Validated{yardstick.told}.")
    networks = [
        fold for fold in folds if fold in evaluated or any((folder / f"fold_{fold}" / name).is_file() for name in OF_NETWORK)
    ]
    dataset = plan.content.get("dataset_name") or folder.resolve().parent.name
    figures: dict[str, Any] = {
        "title": "Training" if names.anonymous else f"{dataset}: training",
        "dataset": dataset,
        "names": {"dice": yardstick.dice, "found": yardstick.found, "false": yardstick.false},
        "plan": _plan(plan),
        "folds": [_history(folder / f"fold_{fold}", fold) for fold in networks],
        "validation": validation,
        "heads": _heads(folder, folds),
        "made_by": _made_by(folder, plan, validation, names.anonymous),
    }
    figures["checklists"] = checklists_of(folder, figures, plan, description)
    whole: dict[str, Any] = plain(figures)
    return whole


def _folds(folder: Path) -> list[str]:
    """By number, then `all`."""
    folds = [path.name.removeprefix("fold_") for path in folder.glob("fold_*") if path.is_dir()]
    return sorted(folds, key=lambda fold: (not fold.isdecimal(), int(fold) if fold.isdecimal() else 0, fold))


def _plan(plan: Plan) -> dict[str, Any]:
    from lnauto.planners.explain import behind_strategy

    block = plan.lnauto
    known = "alternatives" in block and "decided_by" in block
    return {
        "reasons": block.get("reasons", {}),
        "strategy": behind_strategy(block) if known else {},
        "evidence": block.get("evidence", {}),
    }


def _history(folder: Path, fold: str) -> dict[str, Any]:
    path = folder / HISTORY
    records = read_json(path, AGAIN) if path.is_file() else []
    wanted = ("iteration", "seconds", "train_loss", "val_loss", "dice", "nodes")
    try:
        return {"fold": fold, "history": [{key: record[key] for key in wanted} for record in records]}
    except (KeyError, TypeError) as error:
        raise InputError.of(f"this is no history as lnauto writes it ({error!r})", path, AGAIN) from error


def _parts_of_others(description: Mapping[str, Any]) -> set[str]:
    """The labels that lie within another, as nnU-Net's regions may: their volume is in that one's."""
    from lnauto.evaluation.labels import LabelScheme

    labels = LabelScheme.of_description(description).labels if "labels" in description else ()
    return {one.name for one in labels if any(set(one.values) < set(other.values) for other in labels)}


def _validation(evaluated: Mapping[str, Path], plan: Plan, names: Names, parts: Collection[str]) -> dict[str, Any]:
    """The figures of each fold and of all together, and every case; `parts` are labels that lie within others."""
    from lnauto.evaluation.over_cases import HOW, OverCases

    content = {fold: read_evaluation(path) for fold, path in evaluated.items()}
    folds = {fold: OverCases.of(one["each_case"], evaluated[fold]) for fold, one in content.items()}
    each = [case for one in content.values() for case in one["each_case"]]
    together = OverCases.of(each, "the folds together")
    rows = [_row(f"fold {fold}", one) for fold, one in folds.items()]
    notes = [HOW, next(iter(content.values())).get("node_found", "") if together.counted else ""]
    if len(folds) > 1 and max(Counter(together.names).values()) > 1:
        notes.append(TWICE)
    elif len(folds) > 1:
        rows.append(_row(ALL, together))
    split = folds_of(plan, content)
    unseen = split is None or split.apart
    notes += [] if unseen else [SEEN]
    fates = [(node["short_axis_mm"], node["found"]) for case in each for node in _nodes(case).get("true_nodes", ())]
    return {
        "unseen": unseen,
        "notes": [note for note in notes if note],
        "rows": rows,
        "sizes": together.sizes() if together.counted else [],
        "short_axes_mm": {
            name: [axis for axis, there in fates if there == found] for name, found in (("found", True), ("missed", False))
        },
        "each_case": [_case(case, fold, names, parts) for fold, one in content.items() for case in one["each_case"]],
    }


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `evaluation.json` holds, once it is known to tell of each case."""
    content: dict[str, Any] = read_json(path, "evaluate again")
    if misfit(content, {"each_case": [{"case": str, "labels": {ANY: dict}, "nodes": dict}]}) or not content["each_case"]:
        raise InputError.of("this is no evaluation of cases as lnauto writes it", path, "evaluate again")
    return content


def _row(of: str, cases: Any) -> dict[str, Any]:
    counts = {name: int(getattr(cases, name).sum()) for name in ("true", "found", "false")}
    figures = {name: estimate.to_json() for name, estimate in cases.estimates().items()}
    return {"of": of, "cases": len(cases), **(counts if cases.counted else {}), "figures": figures}


def _nodes(case: Mapping[str, Any]) -> Mapping[str, Any]:
    from lnauto.evaluation.pair import ALL_NODES

    nodes: Mapping[str, Any] = case["nodes"].get(ALL_NODES, {})
    return nodes


def _case(case: Mapping[str, Any], fold: str, names: Names, parts: Collection[str]) -> dict[str, Any]:
    from lnauto.evaluation.over_cases import dice_of_case

    nodes, labels = _nodes(case), [label for name, label in case["labels"].items() if name not in parts]
    volumes = {f"{side}_ml": sum(label[f"{side}_mm3"] for label in labels) / 1000 for side in ("true", "predicted")}
    counts = {key: nodes.get(key) for key in ("true", "found", "false", "f1")}
    missed = nodes["true"] - nodes["found"] if nodes else None
    return {"case": names.of(case["case"]), "fold": fold, "dice": dice_of_case(case), **counts, "missed": missed, **volumes}


def _worst_and_best(each: Sequence[dict[str, Any]], figures: Mapping[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """By F1 of nodes, where they are counted, then by Dice: the worst first, and why each was chosen."""
    key = "f1" if figures["validation"] is not None and figures["validation"]["sizes"] else "dice"
    ranked = sorted((case for case in each if case[key] is not None), key=lambda case: (case[key], case["dice"] or 0.0))
    worst = ranked[: max(MOST_LOOKED_AT - BEST, MOST_LOOKED_AT - len(ranked))]
    best = ranked[len(worst) :][-BEST:][::-1]
    return [(case, _why(case, "worst", place, key)) for place, case in enumerate(worst, start=1)] + [
        (case, _why(case, "best", place, key)) for place, case in enumerate(best, start=1)
    ]


def _why(case: Mapping[str, Any], side: str, place: int, key: str) -> str:
    rank = f"{PLACES[place - 1]} {side}".strip()
    if key == "dice":
        return f"{rank}: Dice {case['dice']:.2f}"
    return f"{rank}: {case['missed']} missed, {case['false']} false, Dice {case['dice'] or 0:.2f}"


def _told(wanted: Sequence[Any], each: Sequence[Mapping[str, Any]]) -> str:
    counted = any(case["f1"] is not None for case in each)
    order = "F1 of their nodes, then Dice" if counted else "Dice"
    return f"{len(wanted)} of {len(each)} cases, by {order}: the worst first, then the best."


def _heads(folder: Path, folds: Sequence[str]) -> list[dict[str, Any]]:
    """For each patient head, what its validation left: of all folds, and of each."""
    places = [path.parent.parent for fold in folds for path in (folder / f"fold_{fold}").glob(f"**/{VALIDATION}/{PATIENTS}")]
    heads = sorted({"" if place.parent == folder else place.name for place in places})
    found = []
    for head in heads:
        together = folder / head / "crossvalidation"
        tables = folder.glob(f"fold_*/{head}/{VALIDATION}/patients.csv")
        files = {ALL: together / PATIENTS} if is_of_these(together / "patients.csv", tables) else {}
        files |= {f"fold {fold}": folder / f"fold_{fold}" / head / VALIDATION / PATIENTS for fold in folds}
        judged = [{"of": of, "figures": _patients(path)} for of, path in files.items() if path.is_file()]
        found += [{"head": head, "judged": judged}] if judged else []
    return found


def _patients(path: Path) -> dict[str, Any]:
    from lnauto.evaluation.patient_json import summary_of

    content = read_json(path, AGAIN)
    try:
        summary_of(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError.of(f"this is no validation of patients as lnauto writes it ({error!r})", path, AGAIN) from error
    return dict(content)


def _made_by(folder: Path, plan: Plan, validation: Mapping[str, Any] | None, anonymous: bool) -> dict[str, str]:
    told = {
        "model": None if anonymous else folder.resolve().name,
        "data set": None if anonymous else plan.content.get("dataset_name"),
        "plan's hash": plan.hash(),
        "planned with": f"lnauto {plan.lnauto['version']}" if "version" in plan.lnauto else None,
        "this page": f"lnauto {__version__}",
    }
    return {name: text for name, text in told.items() if text}
