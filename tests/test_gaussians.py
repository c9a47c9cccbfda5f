"""What the classifier of voxels sees of an image: smoothed by matrices, and how it bends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

from lnauto.planners.completeness import gaussians


@pytest.mark.parametrize("widths", [(0.7, 0.7, 0.7), (0.9, 2.2, 3.1)])
def test_gaussians_are_scipys(widths: gaussians.Widths) -> None:
    values = np.random.default_rng(0).random((17, 24, 31), np.float32)
    np.testing.assert_allclose(gaussians.smooth(values, widths), gaussian_filter(values, widths, truncate=2.5), atol=1e-6)
    expected = gaussian_gradient_magnitude(values, widths, truncate=2.5)
    np.testing.assert_allclose(gaussians.steepness(values, widths), expected, atol=1e-6)


def test_a_ball_bends_along_three_axes_and_a_tube_along_two_whatever_their_direction() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(-12.0, 13.0)] * 3, indexing="ij"))
    along = np.array([1.0, 2.0, 2.0]) / 3
    ball = np.exp(-(grid**2).sum(axis=0) / 18)
    tube = np.exp(-((grid**2).sum(axis=0) - np.tensordot(along, grid, 1) ** 2) / 18)
    widths = (1.0, 1.0, 1.0)
    of_ball, of_tube = (
        [float(direction[12, 12, 12]) for direction in gaussians.principal(bends)]
        for bends in (
            {axes: gaussians.derivative(shape.astype(np.float32), widths, orders) for axes, orders in gaussians.BEND.items()}
            for shape in (ball, tube)
        )
    )
    assert of_ball == sorted(of_ball)
    assert of_ball[2] < -0.05
    np.testing.assert_allclose(of_ball, np.mean(of_ball), rtol=1e-3)
    assert of_tube[1] < -0.05
    np.testing.assert_allclose(of_tube[1], of_tube[0], rtol=0.05)
    assert abs(of_tube[2]) < 0.05 * abs(of_tube[1])
