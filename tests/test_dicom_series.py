"""Folders of DICOM become volumes, or a sentence that says why not."""

from __future__ import annotations

import locale
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import OBLIQUE, item, stored, write_multiframe, write_series
from pydicom.data import get_testdata_file

from lnauto.dicom.choosing import choose
from lnauto.dicom.listing import read_folder
from lnauto.dicom.volume import read_volume
from lnauto.errors import InputError

SHAPE = (6, 10, 12)


def only(folder: Path) -> Any:
    [series] = read_folder(folder).series
    return series


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(only(folder))
    return str(caught.value)


class TestVolumes:
    @pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), OBLIQUE])
    def test_as_simpleitk_reads_it(self, tmp_path: Path, orientation: tuple[float, ...]) -> None:
        write_series(tmp_path, stored(), orientation=orientation)
        volume = read_volume(only(tmp_path))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
        theirs = reader.Execute()
        assert np.array_equal(sitk.GetArrayFromImage(volume), sitk.GetArrayFromImage(theirs))
        for mine, their in (
            (volume.GetSpacing(), theirs.GetSpacing()),
            (volume.GetOrigin(), theirs.GetOrigin()),
            (volume.GetDirection(), theirs.GetDirection()),
        ):
            assert mine == pytest.approx(their, abs=1e-5)
        assert volume.GetPixelID() == sitk.sitkInt16

    def test_any_names_any_depth_among_other_files(self, tmp_path: Path) -> None:
        values = stored()
        write_series(tmp_path / "deep" / "er", values, name="{:d}")
        (tmp_path / "notes.txt").write_text("not DICOM")
        (tmp_path / "deep" / "picture.png").write_bytes(b"\x89PNG" + bytes(200))
        (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"broken")
        shutil.copy(tmp_path / "deep" / "er" / "2", tmp_path / "the same again")
        series = only(tmp_path)
        assert (series.modality, series.description, len(series.frames)) == ("CT", "A series", 6)
        assert "6 slices, 2x1.5x3 mm" in str(series)
        assert np.array_equal(sitk.GetArrayFromImage(read_volume(series)), values.astype(int) - 1024)

    def test_slices_are_ordered_by_place_not_by_name(self, tmp_path: Path) -> None:
        values = stored()
        write_series(tmp_path, values, heights=[9.0, 0.0, 3.0, 15.0, 6.0, 12.0])
        order = [1, 2, 4, 0, 5, 3]
        assert np.array_equal(sitk.GetArrayFromImage(read_volume(only(tmp_path))), values[order].astype(int) - 1024)

    def test_positions_that_were_rounded(self, tmp_path: Path) -> None:
        write_series(tmp_path, stored(), heights=[0.0, 0.6, 1.3, 1.9, 2.5, 3.1])  # 0.625 mm
        assert read_volume(only(tmp_path)).GetSpacing()[2] == pytest.approx(0.62)

    def test_each_slice_has_its_own_slope(self, tmp_path: Path) -> None:
        slopes = [1.0, 2.0, 0.5, 1.0, 1.0, 1.0]
        values = stored()
        write_series(tmp_path, values, modality="MR", slope=slopes, intercept=10.0)
        volume = sitk.GetArrayFromImage(read_volume(only(tmp_path)))
        assert np.allclose(volume, values * np.array(slopes)[:, None, None] + 10)

    def test_padding_becomes_air(self, tmp_path: Path) -> None:
        values = stored(dtype=np.int16)
        values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = -2000, -1500, 31000
        write_series(tmp_path / "a", values, PixelPaddingValue=31000)
        volume = sitk.GetArrayFromImage(read_volume(only(tmp_path / "a")))
        assert [volume[0, 0, 0], volume[1, 0, 0], volume[2, 0, 0]] == [-1024, -1024, -1024]
        assert np.array_equal(volume[3:], values[3:] - 1024)
        write_series(tmp_path / "b", values, PixelPaddingValue=30000, PixelPaddingRangeLimit=32000)
        assert sitk.GetArrayFromImage(read_volume(only(tmp_path / "b")))[2, 0, 0] == -1024

    @pytest.mark.parametrize(
        "name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "lossless"]
    )
    def test_compressed(self, tmp_path: Path, name: str) -> None:
        """The same slice, four times, stored in several ways."""
        plain = pydicom.dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array
        before = locale.setlocale(locale.LC_ALL)
        for number in range(4):
            path = tmp_path / f"{number}.dcm"
            if name == "lossless":
                written = sitk.ReadImage(str(get_testdata_file("MR_small.dcm")))
                writer = sitk.ImageFileWriter()
                writer.SetFileName(str(path))
                writer.KeepOriginalImageUIDOn()
                writer.UseCompressionOn()
                writer.SetCompressor("JPEG")
                writer.Execute(written)
                dataset = pydicom.dcmread(path)
                dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
            else:
                dataset = pydicom.dcmread(str(get_testdata_file(name)))
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
            dataset.ImagePositionPatient = [0, 0, 2.0 * number]
            dataset.SeriesInstanceUID = "1.2.3"
            dataset.save_as(path)
        locale.setlocale(locale.LC_ALL, before)  # SimpleITK's writer of JPEG leaves another behind
        if name == "lossless":
            assert dataset.file_meta.TransferSyntaxUID.name.startswith("JPEG Lossless")
        for plane in sitk.GetArrayFromImage(read_volume(only(tmp_path))):
            assert np.array_equal(plane, plain)

    def test_many_frames_in_one_file(self, tmp_path: Path) -> None:
        values = stored()
        write_multiframe(tmp_path / "file", values)
        volume = read_volume(only(tmp_path))
        slopes = np.array([1, 2, 1, 2, 1, 2])[:, None, None]
        assert np.array_equal(sitk.GetArrayFromImage(volume), values * slopes - 1024)
        assert volume.GetSpacing() == (2.0, 1.5, 3.0)
        assert volume.GetOrigin() == (-20.0, 10.0, 0.0)

    def test_damaged_pixels(self, tmp_path: Path) -> None:
        write_series(tmp_path, stored())
        dataset = pydicom.dcmread(tmp_path / "IM0003.dcm")
        dataset.PixelData = dataset.PixelData[:20]
        dataset.save_as(tmp_path / "IM0003.dcm")
        assert "the pixels of IM0003.dcm" in refusal(tmp_path)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"heights": [0, 3, 6, 12, 15, 18]}, "3.00 mm apart, but there is a gap of 6.00 mm after slice 3: 1 missing there"),
            ({"heights": [0, 3, 6, 9, 12, 14]}, "there is a gap"),
            ({"heights": [0, 3, 3, 6, 9, 12]}, "several slices lie at one position"),
            ({"heights": [4] * 6}, "all lie at one position"),
            ({"shift": (0, 0.8, 0)}, "tilted gantry (14.9 degrees)"),
            ({"each": {2: {"ImagePositionPatient": [-17, 10, -94]}}}, "shifted sideways"),
            ({"each": {2: {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}}}, "mixed orientations"),
            ({"each": {2: {"PixelSpacing": [1.0, 1.0]}}}, "pixels of different sizes"),
            ({"each": {2: {"Rows": 5, "Columns": 24}}}, "different sizes (5x24, 10x12)"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
            ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "RGB"),
            ({"PixelSpacing": None}, "how large their pixels are"),
            ({"ImagePositionPatient": None}, "where in the patient"),
        ],
    )
    def test_by_name(self, tmp_path: Path, options: dict[str, Any], said: str) -> None:
        uid = write_series(tmp_path, stored(), **options)
        message = refusal(tmp_path)
        assert said in message
        assert uid in message

    def test_single_slice(self, tmp_path: Path) -> None:
        write_series(tmp_path, stored((1, 10, 12)))
        assert "single slice" in refusal(tmp_path)

    def test_few_slices_of_a_slab(self, tmp_path: Path) -> None:
        write_series(tmp_path, stored((3, 10, 12)), modality="MR", MRAcquisitionType="3D")
        assert "acquired in 3D only 3 are there" in refusal(tmp_path)


class TestChoosing:
    @pytest.fixture
    def two(self, tmp_path: Path) -> Path:
        write_series(tmp_path / "a", stored(), uid="1.2.33", SeriesDescription="Chest CT 3.0")
        write_series(tmp_path / "b", stored(), uid="1.2.44", modality="PT", SeriesDescription="PET body", Units="GML")
        write_series(tmp_path / "c", stored((1, 10, 12)), uid="1.2.55", SeriesDescription="Scout CT")
        return tmp_path

    @pytest.mark.parametrize(
        ("wanted", "uid"),
        [
            ("1.2.33", "1.2.33"), ("44", "1.2.44"), ("chest ct.*", "1.2.33"), ("CT", "1.2.33"), ("PET", "1.2.44"),
            ("body", "1.2.44"), ("Scout.*", "1.2.55"),
        ],
    )  # fmt: skip
    def test_one(self, two: Path, wanted: str, uid: str) -> None:
        assert choose(read_folder(two).series, wanted).uid == uid

    @pytest.mark.parametrize(
        ("wanted", "said"), [("", "there are 2 series"), ("MR", "no series is MR"), (".*", "2 series are .*")]
    )
    def test_listed(self, two: Path, wanted: str, said: str) -> None:
        with pytest.raises(InputError, match=r"Chest CT 3\.0") as caught:
            choose(read_folder(two).series, wanted, two)
        assert said in str(caught.value)
        assert "1.2.44" in str(caught.value)
        assert "--series" in str(caught.value)

    def test_a_modality_is_never_a_part_of_a_description(self, tmp_path: Path) -> None:
        write_series(tmp_path, stored(), modality="MR", SeriesDescription="T2 Rectum")
        with pytest.raises(InputError, match=r'no series is CT \(there: .*"T2 Rectum" \(MR'):
            choose(read_folder(tmp_path).series, "CT", tmp_path)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no DICOM image"):
            choose(read_folder(tmp_path).series, "CT", tmp_path)


class TestSuv:
    WEIGHT, DOSE, HALF_LIFE = 70.0, 3.5e8, 6586.2

    def pet(self, folder: Path, drop: str = "", **elements: Any) -> np.ndarray:
        values = stored()
        drug = item(
            RadionuclideTotalDose=self.DOSE, RadionuclideHalfLife=self.HALF_LIFE, RadiopharmaceuticalStartTime="233000.00"
        )
        header = {
            "Units": "BQML", "DecayCorrection": "START", "PatientWeight": self.WEIGHT, "SeriesDate": "20200102",
            "SeriesTime": "003000", "AcquisitionDate": "20200102", "AcquisitionTime": "003000.00",
            "RadiopharmaceuticalInformationSequence": [drug],
        } | elements  # fmt: skip
        if drop in drug:
            delattr(drug, drop)
        write_series(
            folder, values, modality="PT", intercept=0.0, slope=[2.0, 1.5, 1.0, 1.0, 1.0, 1.0],
            **{name: value for name, value in header.items() if name != drop},
        )  # fmt: skip
        return values * np.array([2.0, 1.5, 1, 1, 1, 1])[:, None, None]

    def test_start(self, tmp_path: Path) -> None:
        """Injected half an hour before midnight, scanned half an hour after."""
        activity = self.pet(tmp_path)
        expected = activity * self.WEIGHT * 1000 / (self.DOSE * 2 ** (-3600 / self.HALF_LIFE))
        assert np.allclose(sitk.GetArrayFromImage(read_volume(only(tmp_path))), expected, rtol=1e-6)

    def test_start_when_the_series_was_stored_later(self, tmp_path: Path) -> None:
        activity = self.pet(tmp_path, SeriesTime="090000")
        expected = activity * self.WEIGHT * 1000 / (self.DOSE * 2 ** (-3600 / self.HALF_LIFE))
        assert np.allclose(sitk.GetArrayFromImage(read_volume(only(tmp_path))), expected, rtol=1e-6)

    def test_admin(self, tmp_path: Path) -> None:
        activity = self.pet(tmp_path, DecayCorrection="ADMIN")
        assert np.allclose(
            sitk.GetArrayFromImage(read_volume(only(tmp_path))), activity * self.WEIGHT * 1000 / self.DOSE, rtol=1e-6
        )

    def test_already_suv(self, tmp_path: Path) -> None:
        assert np.allclose(self.pet(tmp_path, Units="GML"), sitk.GetArrayFromImage(read_volume(only(tmp_path))))

    @pytest.mark.parametrize(
        "field",
        ["PatientWeight", "DecayCorrection", "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"],
    )
    def test_missing_fields_are_named(self, tmp_path: Path, field: str) -> None:
        self.pet(tmp_path, drop=field)
        assert f"the header lacks {field}" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("elements", "said"),
        [
            ({"Units": "CNTS"}, "units of CNTS"),
            ({"DecayCorrection": "NONE"}, "corrected to NONE"),
            ({"PatientWeight": 0}, "lacks PatientWeight"),
            ({"RadiopharmaceuticalInformationSequence": []}, "lacks RadionuclideTotalDose, RadionuclideHalfLife, Radiopharm"),
            ({"NumberOfSlices": 9}, "6 of 9 are there"),
        ],
    )
    def test_refused(self, tmp_path: Path, elements: dict[str, Any], said: str) -> None:
        self.pet(tmp_path, **elements)
        assert said in refusal(tmp_path)

    def test_a_dose_in_mbq(self, tmp_path: Path) -> None:
        drug = item(RadionuclideTotalDose=350, RadionuclideHalfLife=6586, RadiopharmaceuticalStartTime="233000")
        self.pet(tmp_path, RadiopharmaceuticalInformationSequence=[drug])
        assert "MBq" in refusal(tmp_path)

    def test_dates_that_do_not_fit(self, tmp_path: Path) -> None:
        drug = item(
            RadionuclideTotalDose=3e8, RadionuclideHalfLife=6586, RadiopharmaceuticalStartDateTime="20150101093000.000000+0100"
        )
        self.pet(tmp_path, RadiopharmaceuticalInformationSequence=[drug])
        assert "2015-01-01 09:30:00" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("injected", "said"),
        [
            ({"RadiopharmaceuticalStartTime": "140500"}, "2020-01-02 14:05:00) is after the start of the scan"),
            ({"RadiopharmaceuticalStartTime": "030000"}, "is 11:00:00 before the scan"),
            ({"RadiopharmaceuticalStartDateTime": "20200102"}, "says no time of day"),
            (
                {"RadiopharmaceuticalStartDateTime": "20200102000000.000", "RadiopharmaceuticalStartTime": "130000"},
                "at 20200102000000.000 by one field and at 130000 by another",
            ),
        ],
    )
    def test_times_of_injection_that_cannot_be_right(self, tmp_path: Path, injected: dict[str, str], said: str) -> None:
        drug = item(RadionuclideTotalDose=self.DOSE, RadionuclideHalfLife=self.HALF_LIFE, **injected)
        self.pet(tmp_path, RadiopharmaceuticalInformationSequence=[drug], SeriesTime="140000", AcquisitionTime="140000")
        assert said in refusal(tmp_path)

    def test_a_slow_nuclide_injected_after_the_scan_was_not_injected_yesterday(self, tmp_path: Path) -> None:
        drug = item(RadionuclideTotalDose=self.DOSE, RadionuclideHalfLife=45720, RadiopharmaceuticalStartTime="140500")
        self.pet(tmp_path, RadiopharmaceuticalInformationSequence=[drug], SeriesTime="140000", AcquisitionTime="140000")
        assert "is after the start of the scan" in refusal(tmp_path)

    def test_date_and_time_of_injection_that_agree(self, tmp_path: Path) -> None:
        both = {"RadiopharmaceuticalStartDateTime": "20200101233000.00+0100", "RadiopharmaceuticalStartTime": "233000"}
        drug = item(RadionuclideTotalDose=self.DOSE, RadionuclideHalfLife=self.HALF_LIFE, **both)
        activity = self.pet(tmp_path, RadiopharmaceuticalInformationSequence=[drug])
        expected = activity * self.WEIGHT * 1000 / (self.DOSE * 2 ** (-3600 / self.HALF_LIFE))
        assert np.allclose(sitk.GetArrayFromImage(read_volume(only(tmp_path))), expected, rtol=1e-6)


@pytest.mark.realdata
class TestRealData:
    @pytest.mark.parametrize(("name", "size"), [("mr_17_slices", (88, 128, 17)), ("compressed_jpegls", (256, 256, 4))])
    def test_good_series(self, realdata: Path, name: str, size: tuple[int, ...]) -> None:
        volume = read_volume(only(realdata / "dicom" / name))
        assert volume.GetSize() == size
        assert sitk.GetArrayViewFromImage(volume).std() > 10

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("gantrytilting", "tilted gantry (14.0 degrees)"),
            ("notavolume", "all lie at one position"),
            ("slicecount", "slices are missing"),
            ("sliceorientation", "mixed orientations"),
        ],
    )
    def test_must_fail(self, realdata: Path, name: str, said: str) -> None:
        assert said in refusal(realdata / "dicom" / "must_fail" / name)
