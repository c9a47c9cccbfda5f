"""Components and measures of nodes."""

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from lnauto.errors import InputError
from lnauto.nodes import bounding_box, label_components, measure_nodes, world_point


def ellipsoid(shape, spacing, radii, turned=0.0, centre=None):
    """A solid ellipsoid (radii in mm, z y x), turned in the axial plane by an angle in radians."""
    centre = [(size - 1) / 2 * step for size, step in zip(shape, spacing, strict=True)] if centre is None else centre
    z, y, x = (grid * step - at for grid, step, at in zip(np.indices(shape), spacing, centre, strict=True))
    along, across = y * np.cos(turned) + x * np.sin(turned), x * np.cos(turned) - y * np.sin(turned)
    return (z / radii[0]) ** 2 + (along / radii[1]) ** 2 + (across / radii[2]) ** 2 <= 1


def axes_by_brute_force(plane, pixel):
    """The docstring's rule on all pixels, without any hull."""
    points = np.argwhere(plane) * pixel
    ways = points[:, None] - points[None]
    lengths = np.sqrt((ways**2).sum(axis=-1))
    far = np.unravel_index(lengths.argmax(), lengths.shape)
    along = ways[far] / lengths[far]
    across = np.array([-along[1], along[0]])
    return lengths[far] + np.hypot(*(along * pixel)), np.ptp(points @ across) + np.hypot(*(across * pixel))


class TestComponents:
    def test_corners_join_voxels(self):
        mask = np.zeros((3, 3, 3), bool)
        mask[0, 0, 0] = mask[1, 1, 1] = True
        assert label_components(mask)[1] == 1
        assert cc3d.connected_components(mask, connectivity=6, return_N=True)[1] == 2  # what the wrong version would say

    def test_numbers_go_by_descending_volume(self):
        mask = np.zeros((4, 6, 12), np.uint8)
        mask[0, 0, 0] = mask[1, 2, 2:5] = mask[3, 5, 8:10] = 1
        labels, count = label_components(mask)
        assert count == 3
        assert labels[1, 2, 3] == 1
        assert labels[3, 5, 8] == 2
        assert labels[0, 0, 0] == 3
        assert np.array_equal(labels > 0, mask > 0)

    @pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 1), (3, 1, 1), (5, 3, 1), (3, 3, 3)])
    def test_boxes_filled_to_both_ends(self, shape):  # on some of which cc3d 4.1 alone fails
        mask = np.indices(shape).sum(0) % 2 == 0
        expected, count = ndimage.label(mask, np.ones((3, 3, 3)))
        labels, found = label_components(mask)
        assert found == count
        assert np.array_equal(labels > 0, expected > 0)

    def test_empty(self):
        labels, count = label_components(np.zeros((2, 3, 4), np.uint8))
        assert count == 0
        assert labels.shape == (2, 3, 4)
        assert measure_nodes(labels, (1, 1, 1)) == []
        assert bounding_box(labels) is None

    def test_box_widens_inside_the_array_only(self):
        mask = np.zeros((5, 6, 7), np.uint8)
        mask[0, 2:4, 5] = 1
        assert bounding_box(mask) == (slice(0, 1), slice(2, 4), slice(5, 6))
        assert bounding_box(mask, margin=2) == (slice(0, 3), slice(0, 6), slice(3, 7))


class TestAxes:
    def test_one_voxel_has_the_size_of_its_voxel(self):
        instances = np.zeros((3, 3, 3), np.uint8)
        instances[1, 1, 1] = 7
        (node,) = measure_nodes(instances, (5.0, 0.8, 0.6))
        assert node.number == 7
        assert node.long_axis_mm == pytest.approx(0.8)
        assert node.short_axis_mm == pytest.approx(0.6)
        assert node.volume_mm3 == pytest.approx(5 * 0.8 * 0.6)

    def test_a_row_of_voxels(self):
        instances = np.zeros((1, 1, 6), np.uint8)
        instances[0, 0, 1:5] = 1
        (node,) = measure_nodes(instances, (1.0, 2.0, 3.0))
        assert (node.long_axis_mm, node.short_axis_mm) == pytest.approx((12.0, 2.0))

    @pytest.mark.parametrize("turned", [0.0, 0.4, 0.9, np.pi / 2, 2.5])
    @pytest.mark.parametrize("spacing", [(2.0, 0.8, 0.8), (3.0, 0.7, 1.1)])
    def test_turned_ellipsoid(self, turned, spacing):
        mask = ellipsoid((9, 40, 40), spacing, (7.0, 10.0, 5.0), turned)
        (node,) = measure_nodes(mask.astype(np.uint8), spacing)
        about_a_voxel = 1.1 * max(spacing[1:])
        assert node.long_axis_mm == pytest.approx(20.0, abs=about_a_voxel)
        assert node.short_axis_mm == pytest.approx(10.0, abs=about_a_voxel)
        assert node.volume_mm3 == pytest.approx(4 / 3 * np.pi * 7 * 10 * 5, rel=0.03)

    @pytest.mark.parametrize("seed", range(12))
    def test_any_shape_as_by_brute_force(self, seed):
        random = np.random.default_rng(seed)
        plane = random.random(random.integers(3, 14, 2)) < random.uniform(0.1, 0.6)
        plane[1, 1:3] = True
        (node,) = measure_nodes(plane[None].astype(np.uint8), (1.0, 0.9, 0.9))
        assert (node.long_axis_mm, node.short_axis_mm) == pytest.approx(axes_by_brute_force(plane, np.array([0.9, 0.9])))

    def test_short_axis_is_of_the_slice_with_the_longest_axis(self):
        instances = np.zeros((2, 12, 12), np.uint8)
        instances[0, 5, :12] = 1  # long and thin
        instances[1, 2:10, 2:10] = 1  # wide, but shorter
        (node,) = measure_nodes(instances, (1, 1, 1))
        assert (node.long_axis_mm, node.short_axis_mm) == pytest.approx((12, 1))

    @pytest.mark.parametrize("turns", range(4))
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_of_equally_long_distances_the_widest_counts(self, turns, mirrored):
        plane = np.zeros((26, 26), np.uint8)
        for row, column in ((3, 0), (18, 20), (0, 8), (3, 25)):  # from the first, both to the second and to the last it is 25
            plane[row, column] = 1
        plane = np.rot90(plane.T if mirrored else plane, turns)
        (node,) = measure_nodes(plane[None], (1, 1, 1))
        assert (node.long_axis_mm, node.short_axis_mm) == pytest.approx((26, 19))

    @pytest.mark.parametrize(("pixels", "side", "axis"), [(25, 0.6, 15), (11, 10 / 11, 10), (12, float(np.float32(10 / 12)), 10)])
    def test_an_axis_that_is_a_whole_number_of_millimetres_is_not_a_hair_less(self, pixels, side, axis):
        """As 0.6 is no binary number, 24 times 0.6 and 0.6 are less than 15, from where on a node is a target lesion."""
        cross = np.zeros((1, pixels, 2 * pixels), np.uint8)
        cross[0, pixels // 2] = cross[0, :, pixels] = 1
        (node,) = measure_nodes(cross, (3, side, side))
        assert node.short_axis_mm == axis

    def test_axes_do_not_run_through_slices(self):
        instances = np.ones((20, 3, 3), np.uint8)
        (node,) = measure_nodes(instances, (1, 1, 1))
        assert node.long_axis_mm < 4

    def test_axial_slices_are_the_patients_own(self):
        mask = ellipsoid((24, 24, 24), (1, 1, 1), (10, 6, 4)).astype(np.uint8)
        coronal = [1, 0, 0, 0, 0, 1, 0, 1, 0]  # the array's z axis runs from front to back, its y axis from feet to head
        (node,) = measure_nodes(mask, (1, 1, 1), direction=coronal)
        assert node.long_axis_mm == pytest.approx(20, abs=1)
        assert node.short_axis_mm == pytest.approx(8, abs=1)


class TestPlaceAndMeans:
    def test_centroid_is_where_simpleitk_puts_it(self):
        import SimpleITK

        image = SimpleITK.Image((6, 7, 8), SimpleITK.sitkUInt8)
        image.SetSpacing((0.7, 0.8, 3.0))
        image.SetOrigin((-12.0, 30.0, 5.5))
        image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
        image[2, 3, 4] = image[3, 3, 4] = 5
        (node,) = measure_nodes(
            SimpleITK.GetArrayFromImage(image), image.GetSpacing()[::-1], origin=image.GetOrigin(), direction=image.GetDirection()
        )
        assert node.centroid_mm == pytest.approx(image.TransformContinuousIndexToPhysicalPoint((2.5, 3, 4)))
        assert world_point((4, 3, 2.5), (3.0, 0.8, 0.7), image.GetOrigin(), image.GetDirection()) == pytest.approx(
            node.centroid_mm
        )

    def test_no_place_without_an_origin(self):
        (node,) = measure_nodes(np.ones((1, 1, 1), bool), (1, 1, 1))
        assert node.centroid_mm is None

    def test_means_are_of_the_nodes_own_voxels(self):
        instances = np.array([[[1, 1, 0, 4]]], np.uint8)
        image = np.array([[[10, 30, 99, -5]]], np.int16)
        first, second = measure_nodes(instances, (1, 1, 1), image=image, probabilities=image / 100, case="A")
        assert (first.number, first.mean_intensity, first.case) == (1, 20.0, "A")
        assert first.probability == pytest.approx(0.2)
        assert (second.number, second.mean_intensity) == (4, -5.0)

    def test_another_grid_is_refused(self):
        with pytest.raises(InputError, match=r"image have shape \(2, 2, 2\).*in case_1; give both"):
            measure_nodes(np.ones((1, 2, 2), np.uint8), (1, 1, 1), image=np.ones((2, 2, 2)), case="case_1")
