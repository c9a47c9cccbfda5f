"""What the values of masks mean that nobody described: numbers of single nodes, or labels."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lnauto.errors import InputError
from lnauto.evaluation.labels import LabelScheme, check_values, values_in
from lnauto.evaluation.masks import Mask, read_mask
from lnauto.files import read_json
from lnauto.nodes import Piece, component_pieces, pieces_of
from lnauto.workflow.node_table import where_any

log = logging.getLogger(__name__)

KINDS = ("auto", "labels", "instances")
DESCRIPTION = "dataset.json"
REMEDY = "correct it, or take it away and say --labels and --kind"
MOST_LOOKED_AT = 20  # masks, to decide
MANY = 3  # values in one mask that could be the numbers of nodes
MOST = 0.9  # of a value's voxels in one piece, of values that are one piece, of masks whose values are consecutive


@dataclass(frozen=True)
class Meaning:
    """Which values are nodes (None: all from 1 that are not `left_out`), and whether each is one node."""

    values: frozenset[int] | None
    instances: bool
    left_out: frozenset[int] = frozenset()
    known: frozenset[int] | None = None  # that a description gives a meaning; None: any may be there

    @classmethod
    def of_description(cls, description: Mapping[str, Any], numbered: bool = False) -> Meaning:
        """That of a model's masks: what `dataset.json` calls nodes, each connected piece one; or each value, if `numbered`."""
        if numbered:
            return cls(None, instances=True)
        nodes = LabelScheme.of_description(description).nodes
        return cls(frozenset(value for label in nodes for value in label.values), instances=False)

    def pieces(self, mask: Mask) -> list[Piece]:
        """The nodes of a mask: its numbers, or the components of all its node labels together."""
        if self.known is not None:
            check_values(values_in(mask.array), self.known, "mask", mask.path)
        if not self.instances:
            return component_pieces(mask.array if self.values is None else where_any(mask.array, self.values))
        if mask.array.dtype.itemsize > 2:
            what = f"a value of {int(mask.array.max())} is no number of a node"
            raise InputError.of(what, mask.path, "number the nodes from 1, or say --kind labels")
        return [piece for piece in pieces_of(mask.array) if self.is_node(piece.number)]

    def is_node(self, value: int) -> bool:
        return value not in self.left_out and (self.values is None or value in self.values)


def meaning_of(
    masks: Mapping[str, Path], description: Path | None, kind: str, labels: Collection[int] | None, quiet: bool
) -> Meaning:
    """As said on the command line, else in `dataset.json`, else as the masks look; tells how it was decided."""
    chosen = None if labels is None else frozenset(labels)
    if description is not None:
        return _described(description, kind, chosen, masks)
    meaning = Meaning(chosen, kind == "instances")
    if kind == "auto":
        instances, why = _look_at(_some(list(masks.values())), meaning, quiet)
        meaning = Meaning(chosen, instances)
        log.info("Values are taken for %s: %s. --kind says otherwise.", "numbers of nodes" if instances else "labels", why)
    if chosen is None:
        log.info("Every value from 1 is taken for nodes; --labels says which are, such as --labels 2-11.")
    return meaning


def find_description(*places: Path | None) -> Path | None:
    """The `dataset.json` in a place (a folder, or a file's), of the model that made what lies there, or one folder up."""
    for place in places:
        if place is None:
            continue
        folder = (place if place.is_dir() else place.parent).resolve()
        files = [home / DESCRIPTION for home in (folder, *_model_of(folder), folder.parent)]
        if path := next((file for file in files if file.is_file()), None):
            return path
    return None


def _model_of(folder: Path) -> list[Path]:
    """That which predicted the masks there, if lnauto did."""
    record = folder / "run.json"
    content: Any = read_json(record, "replace it, or take it away") if record.is_file() else None
    model = content.get("model") if isinstance(content, dict) else None  # anybody's file may be called so
    return [Path(model)] if isinstance(model, str) else []


def hold_numbers(masks: Mapping[str, Path]) -> bool:
    """Whether masks described as numbered nodes number theirs, as what a network predicts does not: 1 alone, in all of them, says
    no more than where nodes are."""
    for path in masks.values():
        try:
            if int(read_mask(path).array.max()) > 1:
                return True
        except InputError:  # told of when it is measured
            continue
    log.info("No mask holds a value above 1, so each connected piece is taken for a node.")
    return False


def _described(path: Path, kind: str, chosen: frozenset[int] | None, masks: Mapping[str, Path]) -> Meaning:
    scheme = LabelScheme.from_dataset_json(path)
    instances = kind == "instances" or (kind == "auto" and scheme.instances and hold_numbers(masks))
    numbered = instances or scheme.instances
    nodes = frozenset(value for label in scheme.nodes for value in label.values)
    left_out = frozenset() if scheme.ignore is None else frozenset({scheme.ignore})
    unknown = sorted((chosen or frozenset()) - scheme.values()) if not numbered else []
    if unknown:
        raise InputError.of(f"--labels names {', '.join(map(str, unknown))}, which is no label's value", path, REMEDY)
    known = None if numbered else frozenset(scheme.values() | left_out)
    if chosen is None and numbered:
        left_out |= scheme.values() - nodes - {0}  # any other value may be a node's number
    elif chosen is None:
        chosen = nodes
    but = f" but {', '.join(map(str, sorted(left_out)))}" if left_out else ""
    named = f"every value from 1{but}" if chosen is None else ", ".join(map(str, sorted(chosen)))
    log.info("As %s says, nodes are %s%s.", path, named, ", each a node of its own" if instances else "")
    return Meaning(chosen, instances, left_out, known)


def _some(paths: Sequence[Path]) -> list[Path]:
    """Spread over all, if there are many."""
    step = max(1, -(-len(paths) // MOST_LOOKED_AT))
    return list(paths[::step])


def _look_at(paths: Sequence[Path], meaning: Meaning, quiet: bool) -> tuple[bool, str]:
    """Whether values are numbers of nodes, and why; masks that cannot be read are told of when they are measured."""
    seen: list[dict[int, bool]] = []  # of each mask, its values, and whether each is one piece
    for path in tqdm(paths, desc="Looking at values", unit="mask", delay=2, disable=quiet):
        try:
            mask = read_mask(path)
        except InputError:
            continue
        if mask.array.dtype.itemsize > 2:
            return False, f"a value of {int(mask.array.max())} in {path.name} is no number of a node"
        seen.append({piece.number: _is_one(piece) for piece in pieces_of(mask.array) if meaning.is_node(piece.number)})
    whole = [one for values in seen for one in values.values()]
    most = max((len(values) for values in seen), default=0)
    if most < MANY:
        return False, f"no mask holds more than {most}" if most else "the masks are empty"
    in_a_row = [max(values) - min(values) + 1 == len(values) for values in seen if values]
    looked = f"in {len(in_a_row)} masks" if len(in_a_row) > 1 else "in the mask"
    if sum(in_a_row) < MOST * len(in_a_row):
        return False, f"{looked} they are not consecutive"
    what = f"{looked} up to {most} are consecutive, and {sum(whole)} of {len(whole)} are one piece each"
    return sum(whole) >= MOST * len(whole), what


def _is_one(piece: Piece) -> bool:
    """But for specks that a pen left."""
    parts = [part.mask.sum() for part in component_pieces(piece.mask)]
    return bool(max(parts) >= MOST * sum(parts))
