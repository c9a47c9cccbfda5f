"""The picture of a training, from its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnauto.trainers.learning_curve import draw_learning_curve
from lnauto.trainers.yardstick import COMPLETE


@pytest.mark.parametrize(("records", "mark"), [(1, "o"), (40, "None")])
def test_a_short_training_has_marks_and_every_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int, mark: str
) -> None:
    """A line of one point is none."""
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path: (drawn.append(self), path.touch()))
    nodes = {"recall": 0.5, "false_per_case": 3.5}
    history = [
        {"iteration": 32 * number, "train_loss": 0.5, "val_loss": 0.7, "dice": 0.3, "nodes": nodes}
        for number in range(1, records + 1)
    ]
    draw_learning_curve(history, tmp_path / "progress.png", COMPLETE)
    losses, scores, false = drawn[0].axes
    assert [line.get_marker() for line in losses.lines] == [mark, mark]
    told = [text.get_text() for text in scores.get_legend().get_texts()]
    assert len(told) == len(scores.lines) + len(false.lines) == 3
    assert all(float(tick).is_integer() for tick in losses.get_xticks())
    assert list(false.get_yticks()) == [0, 1, 3]
