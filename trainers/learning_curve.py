"""A picture of a training: losses, Dice, and nodes found and invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lnauto.files import replacing
from lnauto.trainers.yardstick import Yardstick

LINES = {"training": "#1f6fb4", "validation": "#d1495b", "Dice": "#2e8b57", "recall": "#7b2d8b", "false": "#7a6c5d"}

FALSE_TICKS = (0, 1, 3, 10, 30, 100, 300, 1000)
FEW = 20  # records, each of which then has a mark


def draw_learning_curve(history: list[dict[str, Any]], path: Path, yardstick: Yardstick) -> None:
    """One PNG from the per-epoch records; a record without node figures leaves a gap in their lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    iterations = [record["iteration"] for record in history]
    mark = "o-" if len(history) < FEW else "-"  # a line of one point is none
    for name, key, told in (("training", "train_loss", "training"), ("validation", "val_loss", "validation patches")):
        losses.plot(iterations, [record[key] for record in history], mark, color=LINES[name], label=told)
    losses.set(xlabel="iteration", ylabel="loss", title="Loss")
    losses.legend(frameon=False)

    dice, told = [record["dice"] for record in history], f"{yardstick.dice}, validation patches"
    shown = scores.plot(iterations, dice, mark, color=LINES["Dice"], label=told)
    nodes = [record for record in history if record.get("nodes")]
    if nodes:
        at = [record["iteration"] for record in nodes]
        recall = [record["nodes"]["recall"] for record in nodes]
        shown += scores.plot(at, recall, "o-", color=LINES["recall"], label=f"{yardstick.found}, whole cases")
        false, told = scores.twinx(), f"{yardstick.false} a case"
        invented = [record["nodes"]["false_per_case"] for record in nodes]
        shown += false.plot(at, invented, "s--", color=LINES["false"], label=f"{told} (right)")
        false.set_yscale("symlog", linthresh=1)
        most = max(1.0, 1.1 * max(invented))
        false.set_yticks([tick for tick in FALSE_TICKS if tick <= most])
        false.set_ylim(0, most)
        false.yaxis.set_major_formatter(ScalarFormatter())
        false.yaxis.set_minor_formatter(NullFormatter())
        false.set_ylabel(told, color=LINES["false"])
    scores.set(
        xlabel="iteration",
        ylabel=yardstick.dice + (f", share of {yardstick.found}" if nodes else ""),
        ylim=(0, 1),
        title="Validation",
    )
    scores.legend(handles=shown, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize="small")
    for panel in (losses, scores):
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    with replacing(path) as temporary:
        figure.savefig(temporary)
