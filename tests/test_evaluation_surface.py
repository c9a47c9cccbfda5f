"""Dice, surface distances and NSD against SimpleITK, brute force, and published definitions."""

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from lnauto.evaluation.overlap import Overlap, pooled
from lnauto.evaluation.surface import SurfaceDistances, contour, nearest_distances
from lnauto.evaluation.surfels import element_areas, surface_dice

SPACING = (2.5, 0.9, 1.2)


def blobs(seed, shape=(14, 17, 19), touching_edge=False, spread=1.2):
    """Two irregular masks that overlap in part; on request both are cut by the image's edge."""
    random = np.random.default_rng(seed)
    shared = ndimage.gaussian_filter(random.normal(size=shape), spread)
    masks = []
    for _ in range(2):
        field = shared + 0.6 * ndimage.gaussian_filter(random.normal(size=shape), spread)
        mask = field > np.quantile(field, 0.85)
        if touching_edge:
            mask[:4, 3:11, 5:12] = True
            mask[5:9, -3:, :6] = True
        else:
            mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
        masks.append(mask)
    return masks


def as_image(mask):
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(SPACING[::-1])
    return image


def lnq2023_assd(true, predicted):
    """LNQ2023's own words in SimpleITK: label contours, Maurer's distance map, the average of the two means."""
    means = []
    for one, other in ((true, predicted), (predicted, true)):
        surface = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(as_image(one), fullyConnected=False)) > 0
        other_surface = SimpleITK.LabelContour(as_image(other), fullyConnected=False)
        distance = SimpleITK.SignedMaurerDistanceMap(other_surface, squaredDistance=False, useImageSpacing=True)
        means.append(np.abs(SimpleITK.GetArrayFromImage(distance))[surface].mean(dtype=float))
    return sum(means) / 2


def brute_force(true, predicted):
    """All distances between the inner contours by scipy's erosion and a full table."""
    surfaces = [
        np.argwhere(mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1), border_value=1)) * SPACING
        for mask in (true, predicted)
    ]
    table = np.sqrt(((surfaces[0][:, None] - surfaces[1][None]) ** 2).sum(axis=-1))
    return table.min(axis=1), table.min(axis=0)


class TestDice:
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_simpleitk(self, seed):
        true, predicted = blobs(seed)
        measures = SimpleITK.LabelOverlapMeasuresImageFilter()
        measures.Execute(as_image(true), as_image(predicted))
        assert Overlap.of(true, predicted, SPACING).dice == pytest.approx(measures.GetDiceCoefficient(), abs=1e-12)

    def test_pooled_over_cases_counts_mm3_not_voxels(self):
        """A: 8 + 8 voxels of 1 mm3, 4 shared; B: 2 + 4 of 27 mm3, 2 shared. By mm3 116/178; by voxels 12/22, by mean 7/12."""
        a_true, a_predicted, b_true, b_predicted = np.zeros((4, 4, 4, 4), bool)
        a_true[:2, :2, :2] = a_predicted[:2, :2, 1:3] = True
        b_true[1, 1, :2] = b_predicted[1, 1, :4] = True
        cases = [Overlap.of(a_true, a_predicted, (1, 1, 1)), Overlap.of(b_true, b_predicted, (3, 3, 3))]
        assert [case.dice for case in cases] == pytest.approx([0.5, 2 / 3])
        assert pooled(cases).dice == pytest.approx(2 * (4 + 54) / (16 + 27 * 6))

    def test_pooled_with_an_empty_case(self):
        full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
        together = pooled(
            [Overlap.of(full, full, (1, 1, 1)), Overlap.of(empty, empty, (1, 1, 1)), Overlap.of(empty, full, (1, 1, 1))]
        )
        assert together.dice == pytest.approx(2 * 8 / (8 + 16))
        assert np.isnan(pooled([Overlap.of(empty, empty, (1, 1, 1))]).dice)


class TestContour:
    @pytest.mark.parametrize("touching_edge", [False, True])
    def test_equals_simpleitk(self, touching_edge):
        for mask in blobs(1, touching_edge=touching_edge):
            expected = SimpleITK.GetArrayFromImage(SimpleITK.LabelContour(as_image(mask), fullyConnected=False)) > 0
            assert np.array_equal(contour(mask), expected)

    def test_no_surface_along_the_images_edge(self):
        mask = np.zeros((4, 5, 6), bool)
        mask[:, :, :3] = True
        assert np.array_equal(np.argwhere(contour(mask).any(axis=(0, 1))).ravel(), [2])

    def test_a_corner_neighbour_outside_is_not_enough(self):
        mask = np.ones((5, 5, 5), bool)
        mask[0, 0, 0] = False
        assert not contour(mask)[1, 1, 1]


class TestASSD:
    @pytest.mark.parametrize("touching_edge", [False, True])
    @pytest.mark.parametrize("seed", range(4))
    def test_equals_lnq2023_in_simpleitk(self, seed, touching_edge):
        true, predicted = blobs(seed, touching_edge=touching_edge)
        assert SurfaceDistances.of(true, predicted, SPACING).assd() == pytest.approx(lnq2023_assd(true, predicted), rel=1e-6)

    @pytest.mark.parametrize("touching_edge", [False, True])
    def test_equals_brute_force(self, touching_edge):
        true, predicted = blobs(7, touching_edge=touching_edge)
        distances = SurfaceDistances.of(true, predicted, SPACING)
        to_predicted, to_true = brute_force(true, predicted)
        assert np.allclose(np.sort(distances.true_to_predicted), np.sort(to_predicted))
        assert np.allclose(np.sort(distances.predicted_to_true), np.sort(to_true))
        assert distances.assd() == pytest.approx((to_predicted.mean() + to_true.mean()) / 2)
        assert distances.pooled_assd() == pytest.approx(np.concatenate([to_predicted, to_true]).mean())
        assert distances.hausdorff95() == pytest.approx(np.percentile(np.concatenate([to_predicted, to_true]), 95))

    def test_the_two_means_weigh_alike_however_large_the_surfaces(self):
        """One voxel against a plate of 25 with the same centre: means 0 and m, so ASSD m/2, pooled 25m/26."""
        true, predicted = np.zeros((2, 5, 7, 7), bool)
        true[2, 3, 3] = True
        predicted[2, 1:6, 1:6] = True
        distances = SurfaceDistances.of(true, predicted, (1, 1, 1))
        rows = np.arange(-2, 3)
        mean = np.hypot(rows[:, None], rows).mean()
        assert distances.assd() == pytest.approx(mean / 2)
        assert distances.pooled_assd() == pytest.approx(25 * mean / 26)

    def test_the_wrong_versions_differ_here(self):
        """The two well-known mistakes would show in these masks: pooled distances, and a surface along the image's edge."""
        true, predicted = blobs(3, touching_edge=True)
        right = SurfaceDistances.of(true, predicted, SPACING)
        assert abs(right.assd() - right.pooled_assd()) > 1e-4
        padded = [np.pad(mask, 1) for mask in (true, predicted)]
        assert abs(right.assd() - SurfaceDistances.of(*padded, SPACING).assd()) > 1e-3

    @pytest.mark.parametrize("touching_edge", [False, True])
    def test_cutting_to_the_box_changes_nothing(self, touching_edge):
        """The masks in a far corner of a larger image, or at its edges, give what uncut surfaces of the whole image give."""
        masks = blobs(5, touching_edge=touching_edge)
        large = [np.pad(mask, ((0, 20), (7, 0), (0, 9))) for mask in masks]
        uncut = [np.argwhere(contour(mask)) for mask in large]
        distances = SurfaceDistances.of(*large, SPACING)
        assert np.array_equal(distances.true_to_predicted, nearest_distances(*uncut, SPACING))
        assert np.array_equal(distances.predicted_to_true, nearest_distances(*uncut[::-1], SPACING))

    @pytest.mark.parametrize("seed", range(4))
    def test_both_ways_to_the_distances_agree(self, seed, monkeypatch):
        points, others = (np.argwhere(contour(mask)) for mask in blobs(seed))
        ways = []
        for limit in (0, 10**9):  # always the tree, always the transform
            monkeypatch.setattr("lnauto.evaluation.surface.VOXELS_A_POINT", limit)
            ways.append(nearest_distances(points, others, SPACING))
        assert np.allclose(*ways, rtol=1e-15)
        near = nearest_distances(points, others, SPACING, at_most=1.2)
        assert np.array_equal(np.isfinite(near), ways[0] <= 1.2)
        assert np.array_equal(near[np.isfinite(near)], ways[0][ways[0] <= 1.2])

    def test_margin_tells_a_masks_own_edge_from_the_images(self):
        """A block inside the image has surfaces all round, though it fills its own box."""
        true = np.zeros((9, 9, 9), bool)
        true[2:7, 2:7, 2:7] = True
        predicted = true.copy()
        predicted[4, 4, 4] = False
        distances = SurfaceDistances.of(true, predicted, (1, 1, 1))
        assert len(distances.true_to_predicted) == 5**3 - 3**3

    def test_a_mask_that_fills_the_image_has_no_surface(self):
        full, block = np.ones((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
        block[1:3, 1:3, 1:3] = True
        distances = SurfaceDistances.of(block, full, (1, 1, 1))
        assert np.isnan([distances.assd(), distances.pooled_assd(), distances.hausdorff95()]).all()

    def test_empty_masks_are_refused(self):
        with pytest.raises(ValueError, match="empty mask has no surface"):
            SurfaceDistances.of(np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1, 1, 1))


class TestNSD:
    def test_areas_of_simple_bodies(self):
        """In marching cubes a lone voxel is an octahedron with edges of 1/sqrt(2) mm."""
        areas = element_areas((1.0, 1.0, 1.0))
        assert areas[0] == areas[255] == 0
        assert 8 * areas[1] == pytest.approx(np.sqrt(3))
        assert areas[0b00001111] == pytest.approx(1.0)
        assert areas[0b00000011] == pytest.approx(np.sqrt(0.5))
        assert (areas[1:255] > 0).all()

    def test_areas_follow_the_spacing(self):
        areas = element_areas((2.0, 3.0, 5.0))
        assert areas[0b00001111] == pytest.approx(15.0)  # square to z
        assert areas[0b00110011] == pytest.approx(10.0)  # square to y
        assert areas[0b01010101] == pytest.approx(6.0)  # square to x

    def test_areas_are_those_of_marching_cubes(self):
        """Against another triangulation, on a ball in oblong voxels."""
        measure = pytest.importorskip("skimage.measure", exc_type=ImportError)
        spacing = (1.5, 0.8, 1.1)
        grid = np.indices((21, 33, 25))
        ball = (
            sum(((axis - size // 2) * step) ** 2 for axis, size, step in zip(grid, (21, 33, 25), spacing, strict=True)) < 9.7**2
        )
        corners, triangles, *_ = measure.marching_cubes(ball.astype(float), 0.5, spacing=spacing)
        padded = np.pad(ball, 1).astype(int)
        patterns = sum(
            padded[z : z + 22, y : y + 34, x : x + 26] << (7 - 4 * z - 2 * y - x) for z in (0, 1) for y in (0, 1) for x in (0, 1)
        )
        assert element_areas(spacing)[patterns].sum() == pytest.approx(measure.mesh_surface_area(corners, triangles), rel=0.01)

    def test_a_plate_moved_by_one_voxel(self):
        true, predicted = np.zeros((2, 10, 12, 12), bool)
        true[3:6, 2:10, 2:10] = True
        predicted[4:7, 2:10, 2:10] = True
        assert surface_dice(true, predicted, (2, 1, 1), tolerance_mm=2.0) == 1.0
        assert 0.2 < surface_dice(true, predicted, (2, 1, 1), tolerance_mm=1.9) < 0.9

    def test_tolerance_is_met_exactly(self):
        """0.2 mm steps: five of them are 1.0 mm, though 13 * 0.2 - 8 * 0.2 is a little more."""
        true, predicted = np.zeros((2, 3, 3, 30), bool)
        true[1, 1, 8] = predicted[1, 1, 13] = True
        assert surface_dice(true, predicted, (0.2, 0.2, 0.2), tolerance_mm=1.0) == 1.0

    @pytest.mark.parametrize(
        ("seed", "spacing", "edge", "tolerance", "expected"),
        [
            (0, (1.0, 1.0, 1.0), False, 1.0, 0.851460692776),
            (1, (2.5, 0.9, 1.2), False, 1.0, 0.778121649613),
            (2, (3.0, 0.7, 0.7), True, 2.0, 0.959587022082),
            (3, (0.6, 1.4, 0.8), True, 0.5, 0.702835575021),
        ],
    )
    def test_equals_surface_distance(self, seed, spacing, edge, tolerance, expected):
        """Figures of google-deepmind/surface-distance 0.1 on these masks."""
        assert surface_dice(*blobs(seed, touching_edge=edge), spacing, tolerance) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("seed", range(6))
    def test_against_surface_distance_where_installed(self, seed):
        metrics = pytest.importorskip("surface_distance.metrics")
        spacing = tuple(np.random.default_rng(seed).uniform(0.4, 3, 3))
        true, predicted = blobs(seed, touching_edge=seed % 2 == 0)
        distances = metrics.compute_surface_distances(true, predicted, spacing)
        for tolerance in (0.0, 0.7, 1.0, 2.0):
            expected = metrics.compute_surface_dice_at_tolerance(distances, tolerance)
            assert surface_dice(true, predicted, spacing, tolerance) == pytest.approx(expected, abs=1e-12)

    def test_empty_masks(self):
        empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
        assert np.isnan(surface_dice(empty, empty, (1, 1, 1), 1.0))
        assert surface_dice(empty, full, (1, 1, 1), 1.0) == 0.0
        assert surface_dice(full, full, (1, 1, 1), 0.0) == 1.0
