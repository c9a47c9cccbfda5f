"""Folders of masks, what is written, and the command."""

import csv
import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK

from lnauto.commands.evaluate import main
from lnauto.errors import InputError
from lnauto.evaluation.cases import ALL_NODES
from lnauto.evaluation.folder import Evaluation, evaluate_folders
from lnauto.evaluation.matching import NodeCounts
from lnauto.workflow.evaluate import evaluate, table, write_evaluation

SHAPE = (8, 12, 20)


def mask(*boxes):
    """A label map of boxes (value, z, y, x, size)."""
    array = np.zeros(SHAPE, np.uint8)
    for value, z, y, x, size in boxes:
        array[z : z + size, y : y + size, x : x + size] = value
    return array


def write(path, array, spacing=(1.0, 1.0, 2.0), origin=(-10.0, 5.0, 0.0), direction=None):
    """`spacing` and `origin` as SimpleITK has them, x first."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


HIT = mask((1, 1, 1, 1, 4))
TWO = mask((1, 1, 1, 1, 4), (1, 1, 1, 10, 4))


@pytest.fixture
def folders(tmp_path):
    """Case A: found. Case B: one of two found. Beside the masks lies what a prediction folder also holds."""
    truth, out = tmp_path / "set" / "labelsTr", tmp_path / "out"
    write(truth / "A.nii.gz", HIT)
    write(truth / "B.nii.gz", TWO)
    for case in "AB":
        write(out / f"{case}.nii.gz", HIT)
    (truth.parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}))
    (out / "run.json").write_text("{}")
    (out / ".hidden.nii.gz").write_bytes(b"")
    (out / "nodes").mkdir()
    return truth, out


class TestFolders:
    def test_two_cases(self, folders):
        evaluation = evaluate_folders(*folders)
        assert [case.case for case in evaluation.cases] == ["A", "B"]
        assert evaluation.summary.nodes[ALL_NODES].counts == NodeCounts(3, 2, 0)
        assert evaluation.summary.labels["node"].scores["dice"].mean == pytest.approx((1 + 2 / 3) / 2)
        assert evaluation.summary.labels["node"].pooled_dice == pytest.approx(0.8)
        assert evaluation.problems == ()
        assert evaluation.cases[0].nodes[ALL_NODES].true[0].centroid_mm == pytest.approx((-10 + 2.5, 5 + 2.5, 5.0))

    def test_spacing_is_read_in_the_right_order(self, folders):
        (node,) = evaluate_folders(*folders).cases[0].nodes[ALL_NODES].true
        assert node.volume_mm3 == pytest.approx(4 * 4 * 4 * 2)
        assert node.long_axis_mm == pytest.approx(3 * np.sqrt(2) + 1)

    def test_missing_and_superfluous_predictions(self, folders, caplog, monkeypatch):
        monkeypatch.setattr(logging.getLogger("lnauto"), "propagate", True)  # a command may have turned it off
        truth, out = folders
        write(truth / "C.nii.gz", HIT)
        write(out / "D.nii.gz", HIT)
        with caplog.at_level("INFO", logger="lnauto"):
            evaluation = evaluate_folders(truth, out)
        assert evaluation.missing == ("C",)
        assert len(evaluation.cases) == 2
        assert "true masks without a prediction, left out of the figures: 1 of 3 (C)" in str(evaluation.problems[0])
        assert "Predictions without a truth are passed over: 1 (D)." in caplog.text

    def test_one_bad_case_does_not_stop_the_others(self, folders):
        truth, out = folders
        (out / "A.nii.gz").write_bytes(b"no image at all")
        evaluation = evaluate_folders(truth, out)
        assert [case.case for case in evaluation.cases] == ["B"]
        assert str(evaluation.problems[0]).startswith("lnauto: this cannot be read as an image (")
        assert str(out / "A.nii.gz") in str(evaluation.problems[0])

    def test_all_cases_bad(self, folders):
        truth, out = folders
        for number in range(8):
            write(truth / f"{number}.nii.gz", HIT)
            write(out / f"{number}.nii.gz", HIT * 7)
        for case in "AB":
            write(out / f"{case}.nii.gz", HIT * 7)
        with pytest.raises(InputError, match="the prediction holds 7") as caught:
            evaluate_folders(truth, out)
        assert len(str(caught.value).splitlines()) == 6
        assert "5 more cases failed" in str(caught.value)

    @pytest.mark.parametrize(
        "geometry",
        [
            {"origin": (-9.0, 5.0, 0.0)},
            {"spacing": (1.0, 1.02, 2.0)},
            {"direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)},
        ],
    )
    def test_another_grid_is_refused(self, folders, geometry):
        truth, out = folders
        write(out / "A.nii.gz", HIT, **geometry)
        evaluation = evaluate_folders(truth, out)
        assert "another grid than the truth's (size 20 x 12 x 8, spacing" in str(evaluation.problems[0])
        assert str(evaluation.problems[0]).endswith("resample it to the image it was made for")

    def test_rounding_in_headers_is_no_other_grid(self, folders):
        truth, out = folders
        write(out / "A.nii.gz", HIT, origin=(-10.0004, 5.0, 0.0), spacing=(1.0001, 1.0, 2.0))
        assert evaluate_folders(truth, out).problems == ()

    def test_hntsmrg_brings_predictions_to_the_truths_grid(self, folders):
        truth, out = folders
        write(out / "A.nii.gz", np.pad(HIT, ((0, 0), (0, 0), (3, 0))), origin=(-13.0, 5.0, 0.0))
        assert evaluate_folders(truth, out, protocol="hntsmrg").cases[0].labels["node"].scores["dice"] == 1.0
        write(out / "A.nii.gz", HIT, spacing=(1.5, 1.0, 2.0))
        assert "another spacing than the truth's" in str(evaluate_folders(truth, out, protocol="hntsmrg").problems[0])

    def test_masks_of_other_types(self, folders):
        truth, out = folders
        write(out / "A.nii.gz", HIT.astype(np.float32))
        assert evaluate_folders(truth, out).cases[0].labels["node"].scores["dice"] == 1.0
        write(out / "A.nii.gz", HIT * np.float32(0.5))
        assert "a mask holds whole numbers from 0, this does not" in str(evaluate_folders(truth, out).problems[0])
        write(out / "A.nii.gz", -HIT.astype(np.int16))
        assert "a mask holds whole numbers from 0" in str(evaluate_folders(truth, out).problems[0])

    def test_another_dimension(self, folders):
        truth, out = folders
        write(out / "A.nii.gz", HIT[2], spacing=(1, 1), origin=(0, 0))
        assert "a mask has 3 dimensions and 1 channel, this has 2 and 1" in str(evaluate_folders(truth, out).problems[0])


class TestMeaning:
    def test_node_labels_and_ignore_of_dataset_json(self, folders):
        truth, out = folders
        labels = {"background": 0, "tumour": 1, "b": 2, "ignore": 3}
        (truth.parent / "dataset.json").write_text(json.dumps({"labels": labels, "node_labels": [2]}))
        write(truth / "A.nii.gz", mask((1, 1, 1, 1, 4), (2, 1, 1, 7, 4), (3, 0, 4, 12, 8)))
        write(out / "A.nii.gz", mask((1, 1, 1, 1, 4), (2, 1, 1, 7, 4), (2, 2, 5, 14, 4)))
        case = evaluate_folders(truth, out).cases[0]
        assert set(case.labels) == {"tumour", "b"}
        assert case.nodes[ALL_NODES].counts == NodeCounts(1, 1, 0)

    def test_description_in_the_folder_itself_comes_first(self, folders):
        truth, out = folders
        (truth / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "nearer": 1}}))
        assert list(evaluate_folders(truth, out).summary.labels) == ["nearer"]

    def test_description_beside_a_link_to_the_masks(self, folders):
        truth, out = folders
        elsewhere = truth.parents[1] / "archive/masks"
        elsewhere.parent.mkdir()
        truth.rename(elsewhere)
        truth.symlink_to(elsewhere)
        assert list(evaluate_folders(truth, out).summary.labels) == ["node"]

    def test_description_given(self, folders, tmp_path):
        (tmp_path / "mine.json").write_text(json.dumps({"labels": {"background": 0, "mine": 1}}))
        assert list(evaluate_folders(*folders, dataset_json=tmp_path / "mine.json").summary.labels) == ["mine"]

    def test_no_description(self, folders):
        truth, out = folders
        (truth.parent / "dataset.json").unlink()
        write(truth / "B.nii.gz", mask((4, 1, 1, 1, 4)))
        evaluation = evaluate_folders(truth, out, protocol="segrap")
        assert set(evaluation.summary.labels) == {"label 1", "label 4"}
        assert evaluation.cases[0].labels["label 4"].scores["dice"] == 1.0

    def test_another_file_ending(self, folders):
        truth, out = folders
        (truth.parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "node": 1}, "file_ending": ".nrrd"}))
        write(truth / "C.nrrd", HIT)
        write(out / "C.nii.gz", HIT)
        assert [case.case for case in evaluate_folders(truth, out).cases] == ["C"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "not valid JSON"),
            ("{}", '"labels" is missing'),
            ('{"labels": {"node": 1}, "node_labels": 1}', '"node_labels" is 1, not a list'),
        ],
    )
    def test_broken_descriptions(self, folders, text, words):
        (folders[0].parent / "dataset.json").write_text(text)
        with pytest.raises(InputError, match=words):
            evaluate_folders(*folders)


class TestInstances:
    @pytest.fixture
    def touching(self, folders):
        """Case A as two touching nodes, found as two."""
        truth, out = folders
        numbers = mask((1, 1, 1, 1, 4), (2, 1, 1, 5, 4))
        for folder in (truth, out):
            write(folder / "A.nii.gz", (numbers > 0).astype(np.uint8))
        write(truth.parent / "nodesTr" / "A.nii.gz", numbers)
        return truth, out, truth.parent / "nodesTr", numbers

    def test_on_one_side_only_they_do_not_count(self, touching):
        truth, out, instances, numbers = touching
        assert evaluate_folders(truth, out, instances=instances).cases[0].nodes[ALL_NODES].counts == NodeCounts(1, 1, 0)
        write(out / "nodes" / "A.nii.gz", numbers)
        assert evaluate_folders(truth, out).cases[0].nodes[ALL_NODES].counts == NodeCounts(1, 1, 0)

    def test_on_both_sides_they_count(self, touching):
        truth, out, instances, numbers = touching
        write(out / "nodes" / "A.nii.gz", numbers)
        assert evaluate_folders(truth, out, instances=instances).cases[0].nodes[ALL_NODES].counts == NodeCounts(2, 2, 0)

    def test_a_case_without_true_instances(self, touching):
        truth, out, instances, _ = touching
        write(out / "nodes" / "B.nii.gz", HIT)
        evaluation = evaluate_folders(truth, out, instances=instances)
        assert str(instances / "B.nii.gz") in str(evaluation.problems[0])

    def test_values_of_the_truth_as_instances(self, touching):
        truth, out, _, numbers = touching
        (truth.parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "node": 1}, "instances": True}))
        write(truth / "A.nii.gz", numbers)
        write(out / "nodes" / "A.nii.gz", numbers)
        assert evaluate_folders(truth, out).cases[0].nodes[ALL_NODES].counts == NodeCounts(2, 2, 0)


class TestWritten:
    def test_json_and_csv(self, folders):
        evaluation, _ = evaluate(*folders)
        told = json.loads((folders[1] / "evaluation.json").read_text(), parse_constant=pytest.fail)
        assert told["made_by"]["lnauto"]
        assert told["protocol"]["name"] == "lnauto"
        assert told["labels"]["node"]["dice"]["mean"] == pytest.approx(evaluation.summary.mean())
        assert told["nodes"][ALL_NODES]["pooled"] == {
            "true": 3,
            "found": 2,
            "false": 0,
            "recall": 2 / 3,
            "precision": 1,
            "f1": 0.8,
        }
        assert [node["found"] for node in told["each_case"][1]["nodes"][ALL_NODES]["true_nodes"]] == [True, False]
        with (folders[1] / "evaluation.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [(row["case"], row["label"], row["nodes_found"]) for row in rows] == [("A", "node", "1"), ("B", "node", "1")]
        assert float(rows[1]["dice"]) == pytest.approx(2 / 3)
        assert not [path for path in folders[1].iterdir() if path.name.endswith((".json", ".csv")) and path.name.startswith(".")]

    def test_what_does_not_exist_is_null_or_empty(self, folders):
        truth, out = folders
        write(out / "A.nii.gz", mask())
        evaluate(truth, out)
        told = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
        assert told["each_case"][0]["labels"]["node"]["assd"] is None
        with (out / "evaluation.csv").open() as file:
            row = next(csv.DictReader(file))
        assert (row["dice"], row["assd"], row["nodes_precision"], row["nodes_recall"]) == ("0.0", "", "", "0.0")

    def test_all_nodes_have_a_row_where_several_labels_are_nodes(self, folders):
        truth, out = folders
        (truth.parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "LN a": 1, "LN b": 2}}))
        evaluate(truth, out)
        with (out / "evaluation.csv").open() as file:
            assert [row["label"] for row in csv.DictReader(file)] == ["LN a", "LN b", ALL_NODES] * 2

    def test_a_second_evaluation_replaces_the_first(self, folders):
        first = evaluate(*folders)[1]
        assert evaluate(*folders)[1] == first

    @pytest.mark.parametrize("protocol", ["lnauto", "lnq2023", "segrap", "hntsmrg", "wcode"])
    def test_table_fits_the_console(self, folders, protocol):
        labels = {"background": 0, "LN of a name that is rather long for a table": 1, "LN other": 2}
        lines = table(evaluate_folders(*folders, protocol=protocol, labels=labels).summary).splitlines()
        assert max(map(len, lines)) <= 100
        headers = [line for line in lines if line.startswith("label")]
        assert len(headers) == 1
        assert ("DSCagg" in headers[0]) == (protocol == "hntsmrg")
        first = [line[:30].strip() for line in lines[lines.index("") + 1 :]]
        assert first[-8:-5] == ["nodes", ALL_NODES, "short axis < 10 mm"]
        assert first[-2:] == ["LN of a name that is rathe...", "LN other"]

    def test_cases_evaluated_elsewhere(self, folders, tmp_path):
        cases = evaluate_folders(*folders).cases
        text = write_evaluation(Evaluation.of_cases(cases, *folders), tmp_path / "new")
        assert "2 cases, protocol lnauto" in text
        assert (tmp_path / "new" / "evaluation.json").is_file()

    def test_unwritable(self, folders, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="the figures cannot be written"):
            evaluate(*folders, tmp_path / "file")


class TestCommand:
    def test_done(self, folders, capsys):
        truth, out = folders
        assert main(["-r", str(truth), "-p", str(out)]) == 0
        printed = capsys.readouterr()
        assert "short axis < 10 mm" in printed.out
        assert printed.err == ""

    def test_quiet_and_output(self, folders, tmp_path, capsys):
        truth, out = folders
        assert main(["-r", str(truth), "-p", str(out), "-o", str(tmp_path / "figures"), "--quiet", "--min-volume", "0"]) == 0
        assert capsys.readouterr().out == ""
        assert (tmp_path / "figures" / "evaluation.csv").is_file()
        assert not (out / "evaluation.csv").exists()

    def test_some_cases_failed(self, folders, capsys):
        truth, out = folders
        (out / "A.nii.gz").unlink()
        assert main(["-r", str(truth), "-p", str(out)]) == 3
        printed = capsys.readouterr()
        assert "1 case, protocol lnauto" in printed.out
        assert "lnauto: true masks without a prediction, left out of the figures: 1 of 2 (A)" in printed.err

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"-p": "nowhere"}, "the predictions folder does not exist"),
            ({"-r": "nowhere"}, "the reference folder does not exist"),
            ({"--instances": "nowhere"}, "the instances folder does not exist"),
            ({"--protocol": "best"}, "there is no protocol 'best'"),
            ({"--min-volume": "-1"}, "the smallest volume is -1.0 mm3, in --min-volume"),
            ({"--dataset-json": "nowhere"}, "the file cannot be read"),
        ],
    )
    def test_wrong_input_is_one_line(self, folders, capsys, change, words):
        arguments = {"-r": str(folders[0]), "-p": str(folders[1])} | change
        assert main([part for pair in arguments.items() for part in pair]) == 2
        printed = capsys.readouterr()
        assert words in printed.err
        assert len(printed.err.splitlines()) == 1
        assert "Traceback" not in printed.err

    def test_no_case_in_common(self, folders, capsys):
        truth, out = folders
        for case in "AB":
            (out / f"{case}.nii.gz").rename(out / f"{case}_pred.nii.gz")
        assert main(["-r", str(truth), "-p", str(out)]) == 2
        assert "no case is in both folders (truth: A, B; predictions: A_pred, B_pred)" in capsys.readouterr().err

    def test_empty_folder(self, folders, tmp_path, capsys):
        assert main(["-r", str(folders[0]), "-p", str(tmp_path)]) == 2
        assert "there are no masks (CASE.nii.gz)" in capsys.readouterr().err

    def test_help_imports_nothing_heavy(self):
        code = (
            "import sys\nfrom lnauto.commands.evaluate import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "sys.exit(any(name in sys.modules for name in ('numpy', 'SimpleITK', 'scipy', 'torch')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Exit codes" in done.stdout
