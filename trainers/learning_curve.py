"""A picture of a training: losses, Dice, and nodes found and invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lnauto.files import replacing
from lnauto.trainers.yardstick import Yardstick

LINES = {"training": "#1f6fb4", "validation": "#d1495b", "Dice": "#2e8b57", "recall": "#7b2d8b", "false": "#7a6c5d"}


def draw_learning_curve(history: list[dict[str, Any]], path: Path, yardstick: Yardstick) -> None:
    """One PNG from the per-epoch records; a record without node figures leaves a gap in their lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    iterations = [record["iteration"] for record in history]
    losses.plot(iterations, [record["train_loss"] for record in history], color=LINES["training"], label="training")
    losses.plot(iterations, [record["val_loss"] for record in history], color=LINES["validation"], label="validation patches")
    losses.set(xlabel="iteration", ylabel="loss", title="Loss")
    losses.legend(frameon=False)

    scores.plot(
        iterations, [record["dice"] for record in history], color=LINES["Dice"], label=f"{yardstick.dice}, validation patches"
    )
    nodes = [record for record in history if record.get("nodes")]
    if nodes:
        at = [record["iteration"] for record in nodes]
        recall = [record["nodes"]["recall"] for record in nodes]
        scores.plot(at, recall, "o-", color=LINES["recall"], label=f"{yardstick.found}, whole cases")
        false = scores.twinx()
        false.plot(
            at,
            [record["nodes"]["false_per_case"] for record in nodes],
            "s--",
            color=LINES["false"],
            label=f"{yardstick.false} a case",
        )
        false.set_yscale("symlog", linthresh=1)
        false.set_ylim(bottom=0)
        false.set_ylabel(f"{yardstick.false} a case", color=LINES["false"])
    scores.set(
        xlabel="iteration",
        ylabel=yardstick.dice + (f", share of {yardstick.found}" if nodes else ""),
        ylim=(0, 1),
        title="Validation",
    )
    scores.legend(frameon=False, loc="lower right")
    with replacing(path) as temporary:
        figure.savefig(temporary)
