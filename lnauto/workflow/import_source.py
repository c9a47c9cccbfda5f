"""What `lnauto_import_model` was pointed at: which checkpoint, and which plans and labels it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnauto.errors import InputError
from lnauto.files import read_json

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")  # nnU-Net's; the first there is taken
USUAL = "3d_fullres"
REMEDY = "give a result folder of nnU-Net's (TRAINER__PLANS__CONFIGURATION, which holds fold_0 or the like), or a .pth file"
PLANS_REMEDY = "give plans.json or the like of the model with --plans"
LABELS_REMEDY = "give dataset.json of the model with --dataset-json"


@dataclass(frozen=True)
class Source:
    """A checkpoint, and what its surroundings say of it; None: they do not."""

    checkpoint: Path
    fold: str | None
    trainer: str | None
    configuration: str | None
    plans: dict[str, Any] | None
    dataset_json: dict[str, Any] | None
    told: tuple[str, ...] = ()  # what was chosen among several


def find_source(path: Path, configuration: str | None, fold: str | None, plans: Path | None, dataset_json: Path | None) -> Source:
    """The one checkpoint that is meant."""
    if path.is_file():
        return _beside(_no_archive(path), None, fold, plans, dataset_json)
    if not path.is_dir():
        raise InputError.of("there is no such file or folder", path, REMEDY)
    own = _checkpoint_in(path)
    if own is not None:
        return _beside(own, path, fold, plans, dataset_json)
    model = _only_model(path, configuration)
    checkpoints = {each.name.removeprefix("fold_"): _checkpoint_in(each) for each in model.glob("fold_*")}
    there = {name: checkpoint for name, checkpoint in sorted(checkpoints.items()) if checkpoint is not None}
    chosen = fold or ("all" if "all" in there else next(iter(there)))
    if chosen not in there:
        raise InputError.of(f"there is no checkpoint of fold {chosen} (there: {', '.join(there)})", model, "give -f one of these")
    told = (f"of the folds {', '.join(there)}, {chosen} was taken (-f names another)",) if len(there) > 1 and fold is None else ()
    return _of_folder(there[chosen], model, plans, dataset_json, told)


def _no_archive(path: Path) -> Path:
    if path.suffix == ".zip":
        raise InputError.of("this is an archive", path, "unpack it, and give the folder")
    return path


def _beside(checkpoint: Path, folder: Path | None, fold: str | None, plans: Path | None, dataset_json: Path | None) -> Source:
    """A checkpoint by itself; one in a `fold_X` has its plans in the folder above."""
    if fold is not None:
        raise InputError.of(
            "-f names a fold of a result folder, and this is one checkpoint", folder or checkpoint, "leave it out"
        )
    home = checkpoint.parent
    return _of_folder(checkpoint, home.parent if home.name.startswith("fold_") else home, plans, dataset_json, ())


def _of_folder(checkpoint: Path, model: Path, plans: Path | None, dataset_json: Path | None, told: tuple[str, ...]) -> Source:
    trainer, configuration = _named(model)
    in_fold = checkpoint.parent.name.startswith("fold_")
    if checkpoint.name in CHECKPOINTS[1:]:
        told = (*told, f"there is no {CHECKPOINTS[0]}, so {checkpoint.name} was taken")
    return Source(
        checkpoint=checkpoint,
        fold=checkpoint.parent.name.removeprefix("fold_") if in_fold else None,
        trainer=trainer,
        configuration=configuration,
        plans=_json(plans or _only_plans(model), PLANS_REMEDY),
        dataset_json=_json(dataset_json or _if_there(model / "dataset.json"), LABELS_REMEDY),
        told=told,
    )


def _checkpoint_in(folder: Path) -> Path | None:
    return next((folder / name for name in CHECKPOINTS if (folder / name).is_file()), None)


def _only_model(path: Path, configuration: str | None) -> Path:
    """The result folder that `path` is or holds, one or two floors down."""
    for floor in ("", "*/", "*/*/"):
        found = sorted({each.parent.parent for name in CHECKPOINTS for each in path.glob(f"{floor}fold_*/{name}")})
        if found:
            break
    else:
        raise InputError.of("there is no checkpoint of nnU-Net's in this folder", path, REMEDY)
    wanted = configuration or USUAL
    fitting = [each for each in found if _named(each)[1] == wanted]
    if len(found) > 1 and fitting:
        found = fitting
    if len(found) > 1:
        names = ", ".join(str(each.relative_to(path)) for each in found)
        raise InputError.of(f"there are {len(found)} models ({names})", path, "give the folder of the one you mean")
    return found[0]


def _named(model: Path) -> tuple[str | None, str | None]:
    """Trainer and configuration, as nnU-Net writes them into the name of a result folder."""
    parts = model.name.split("__")
    return (parts[0], parts[2]) if len(parts) == 3 else (None, None)


def _only_plans(folder: Path) -> Path | None:
    usual = _if_there(folder / "plans.json")
    others = sorted(folder.glob("*Plans*.json"))
    return usual or (others[0] if len(others) == 1 else None)


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _json(path: Path | None, remedy: str) -> dict[str, Any] | None:
    if path is None:
        return None
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise InputError.of("this holds no keys", path, remedy)
    return content
