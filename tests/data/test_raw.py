import json
import logging

import pytest

from lnauto.data.raw import RawDataset, survey
from lnauto.nodes import names_nodes

JSON = "Dataset501_Tiny/dataset.json"
UNANNOTATED = 'or name the case in "unannotated" of dataset.json'
BLOCK_EXAMPLE = '{"images": ["scan.nii.gz"], "label": "mask.nii.gz"}'

KEY_FAULTS = {
    "channels by name": (
        {"channel_names": {"CT": 0}},
        ['"channel_names" does not number its channels "0", "1", ...', 'write it like {"0": "CT", "1": "PET"}'],
    ),
    "channels from one": (
        {"channel_names": {"1": "CT"}},
        ['"channel_names" does not number its channels "0", "1", ...', 'write it like {"0": "CT", "1": "PET"}'],
    ),
    "ending": ({"file_ending": "nii.gz"}, ['"file_ending" is "nii.gz"', 'write the ending with its dot, like ".nii.gz"']),
    "labels the old way": (
        {"labels": {"0": "background", "1": "node"}},
        [
            '"labels" does not give each name a whole number or a list of them',
            'write it like "labels": {"background": 0, "node": 1}',
        ],
    ),
    "no background": ({"labels": {"node": 1}}, ['"labels" does not declare "background" as 0', 'add "background": 0']),
    "gap": (
        {"labels": {"background": 0, "node": 1, "vessel": 3}},
        ['"labels" are not consecutive (0, 1, 3)', "number them 0, 1, 2, ... without gaps"],
    ),
    "twice": (
        {"labels": {"background": 0, "node": 1, "nodes too": 1}},
        ['"labels" gives the number 1 to node and nodes too', "give each name its own number"],
    ),
    "ignore below": (
        {"labels": {"background": 0, "ignore": 1, "node": 2}},
        ['"ignore" is 1, which is not above every other label', 'give "ignore" the highest number'],
    ),
    "nothing drawn": (
        {"labels": {"background": 0}},
        ['"labels" declares nothing besides background', 'add what is drawn, for example "node": 1'],
    ),
    "regions": (
        {"labels": {"background": 0, "all": [1, 2], "node": 2}},
        [
            '"labels" holds regions, but "regions_class_order" is not a list of 2 numbers',
            "list the number each of all, node is written as, in that order",
        ],
    ),
    "annotation": (
        {"annotation": "scribbles"},
        ['"annotation" is "scribbles"', "write one of full, partial, scribble, patient, table, or leave it out"],
    ),
    "strokes without ignore": (
        {"annotation": "scribble"},
        [
            '"annotation" is "scribble", but "labels" has no "ignore"',
            'declare the value of voxels that are not drawn as "ignore", the highest label',
        ],
    ),
    "unannotated": (
        {"unannotated": "b"},
        ['"unannotated" is not a list of case names', 'write it like "unannotated": ["case_07", "case_12"]'],
    ),
    "node labels": (
        {"node_labels": ["node"]},
        ['"node_labels" is not a list of label numbers', 'write it like "node_labels": [2, 3]'],
    ),
    "unknown node label": ({"node_labels": [1, 2]}, ['"node_labels" names 2, which is no foreground label', "choose from [1]"]),
    "instances": ({"instances": "yes"}, ['"instances" is "yes"', "write true or false"]),
    "instances of several labels": (
        {"instances": True, "labels": {"background": 0, "tumour": 1, "node": 2}},
        ['"instances" is true, but "labels" names several', "name one label, or leave instances out"],
    ),
    "block": (
        {"dataset": ["a"]},
        ['"dataset" is not an object of cases', f'write it like "dataset": {{"case_01": {BLOCK_EXAMPLE}}}'],
    ),
    "entry of the block": (
        {"dataset": {"a": {"images": "a.nii.gz"}}},
        ['the entry of case a in "dataset" does not hold a list of images and a label', f"write it like {BLOCK_EXAMPLE}"],
    ),
}


@pytest.mark.parametrize("fault", KEY_FAULTS)
def test_a_faulty_key_of_dataset_json(fault, tiny, lines):
    changes, (what, remedy) = KEY_FAULTS[fault]
    assert lines(RawDataset.read, tiny(**changes).folder) == [f"lnauto: {what}, in {JSON}; {remedy}"]


@pytest.mark.parametrize(
    ("key", "example"),
    [
        ("channel_names", '"channel_names": {"0": "CT"}'),
        ("labels", '"labels": {"background": 0, "node": 1}'),
        ("file_ending", '"file_ending": ".nii.gz"'),
    ],
)
def test_a_missing_key_of_dataset_json(key, example, tiny, lines):
    data = tiny()
    data.describe(drop=[key])
    assert lines(RawDataset.read, data.folder) == [f'lnauto: "{key}" is missing, in {JSON}; add it, like {example}']


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (b'{"labels": {}', "the file is not valid JSON (line 1, column 14: Expecting ',' delimiter)", "correct it at that place"),
        (b'{"labels": 1, "labels": 2}', 'the file cannot be read ("labels" stands 2 times in one object)', "correct it"),
        (
            b"[1]",
            "the file does not hold a JSON object",
            'write it like {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}',
        ),
    ],
)
def test_a_broken_dataset_json(content, what, remedy, tiny, lines):
    data = tiny()
    (data.folder / "dataset.json").write_bytes(content)
    assert lines(RawDataset.read, data.folder) == [f"lnauto: {what}, in {JSON}; {remedy}"]


def test_a_dataset_json_that_is_no_text(tiny, lines):
    data = tiny()
    (data.folder / "dataset.json").write_bytes(b"\xff\xfe{}")
    (line,) = lines(RawDataset.read, data.folder)
    assert line.startswith("lnauto: the file cannot be read (")


def test_no_folder_no_dataset_json(tmp_path, lines):
    assert lines(RawDataset.read, tmp_path / "none") == [
        f"lnauto: there is no dataset.json, in {tmp_path / 'none'}; check the path, or write one like "
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}'
    ]


def remove(place):
    return lambda data, voxels: (data.folder / place).unlink()


def add(place):
    return lambda data, voxels: data.write(place, voxels.noise())


def describe(**changes):
    return lambda data, voxels: data.describe(**changes)


FILE_FAULTS = {
    "missing label": (
        remove("labelsTr/b.nii.gz"),
        f"the label is missing, in case b; add labelsTr/b.nii.gz, {UNANNOTATED}",
    ),
    "surplus channel": (
        add("imagesTr/a_0001.nii.gz"),
        'channel 0001 is surplus: "channel_names" does not declare it, in Dataset501_Tiny/imagesTr/a_0001.nii.gz; '
        "declare it, or remove the file",
    ),
    "no channel number": (
        add("imagesTr/scan.nii.gz"),
        "the file's name does not say which channel it is, in Dataset501_Tiny/imagesTr/scan.nii.gz; call it scan_0000.nii.gz",
    ),
    "label without image": (
        add("labelsTr/c.nii.gz"),
        "this label has no image, in Dataset501_Tiny/labelsTr/c.nii.gz; add imagesTr/c_0000.nii.gz, or remove the label",
    ),
    "unannotated, unknown": (
        describe(unannotated=["z"]),
        f'"unannotated" names z, of which there is no image, in {JSON}; correct the name, or remove it',
    ),
    "unannotated, yet labelled": (
        describe(unannotated=["a"]),
        f'"unannotated" names a, which has a label, in {JSON}; remove the name, or the label',
    ),
    "in two places": (
        add("imagesUn/a_0000.nii.gz"),
        "case a is there already, among the training cases, in Dataset501_Tiny/imagesUn; keep it in one place",
    ),
    "patient labels without a table": (
        lambda data, voxels: [data.describe(annotation="patient"), *[path.unlink() for path in data.folder.glob("labelsTr/*")]],
        'there is no patients.csv, but "annotation" is "patient", in Dataset501_Tiny; add the table',
    ),
    "a table without a table": (
        describe(annotation="table"),
        'there is no patients.csv, but "annotation" is "table", in Dataset501_Tiny; add the table',
    ),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_fault_of_the_files_on_disk(fault, tiny, voxels, lines):
    spoil, expected = FILE_FAULTS[fault]
    data = tiny()
    spoil(data, voxels)
    assert lines(RawDataset.read, data.folder) == [f"lnauto: {expected}"]


def test_a_missing_channel(tiny, lines):
    data = tiny(channels=("CT", "PET"))
    (data.folder / "imagesTr/b_0001.nii.gz").unlink()
    assert lines(RawDataset.read, data.folder) == ["lnauto: channel 0001 (PET) is missing, in case b; add imagesTr/b_0001.nii.gz"]


def test_no_case_at_all(tiny, lines):
    data = tiny(cases=(), masks=())
    advice = "in Dataset501_Tiny/imagesTr; put images there, as CASE_0000.nii.gz"
    assert lines(RawDataset.read, data.folder) == [f"lnauto: there is no case at all, {advice}"]
    (data.folder / "imagesTr").mkdir()
    (data.folder / "imagesTr" / "a_0000.mha").touch()
    assert lines(RawDataset.read, data.folder) == [
        f"lnauto: there is no case at all (a_0000.mha does not end in .nii.gz), {advice}"
    ]


def test_masks_declared_but_none_there(tiny, lines):
    data = tiny(masks=(), unannotated=["a", "b"], annotation="partial")
    assert lines(RawDataset.read, data.folder) == [
        f'lnauto: "annotation" is "partial", but no case has a label, in {JSON}; add labels, or remove "annotation"'
    ]


def test_masks_where_only_patient_labels_were_declared(tiny, lines):
    data = tiny(annotation="patient")
    data.patients("patient,lnm\na,1\n")
    assert lines(RawDataset.read, data.folder) == [
        'lnauto: there is a label, but "annotation" is "patient", in case a; remove it, or "annotation"',
        'lnauto: there is a label, but "annotation" is "patient", in case b; remove it, or "annotation"',
        "lnauto: case b belongs to no patient, in Dataset501_Tiny/patients.csv; add the patient's row, or remove the images",
    ]


def test_all_faults_of_the_layout_are_told_together(tiny, voxels, lines):
    data = tiny(cases=("a", "b", "c"), masks=("a",))
    data.describe(node_labels=[4], instances=1, unannotated=["z"])
    data.write("imagesTr/a_0007.nii.gz", voxels.noise())
    data.patients("patient\nq\n")
    told = lines(RawDataset.read, data.folder)
    expected = ["node_labels", "instances", "channel 0007", "names z", "case b", "case c", "patient q"]
    assert len(told) == len(expected)
    assert all(part in line for part, line in zip(expected, told, strict=True)), told


def test_a_faulty_list_of_exceptions_brings_no_lines_about_labels(tiny, lines):
    assert len(lines(RawDataset.read, tiny(masks=(), unannotated="all").folder)) == 1


def test_the_plain_layout(tiny, voxels):
    data = tiny(cases=("b", "a"), channels=("CT", "PET"), numTraining=77)
    data.write("imagesTs/t_0000.nii.gz", voxels.noise())
    data.write("imagesTs/t_0001.nii.gz", voxels.noise())
    data.write("imagesTs/half_0000.nii.gz", voxels.noise())
    data.write("labelsTs/t.nii.gz", voxels.cube())
    (data.folder / "imagesTr/.DS_Store.nii.gz").touch()
    dataset = RawDataset.read(data.folder)
    assert (dataset.name, dataset.id, dataset.file_ending) == ("Dataset501_Tiny", 501, ".nii.gz")
    assert dataset.channel_names == {"0": "CT", "1": "PET"}
    assert dataset.labels == {"background": 0, "node": 1}
    assert (dataset.ignore_label, dataset.annotation, dataset.instances, dataset.patients) == (None, None, False, None)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert [path.name for path in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert dataset.cases[1].label == data.folder / "labelsTr/b.nii.gz"
    assert [(case.name, case.label.name) for case in dataset.test_cases] == [("t", "t.nii.gz")]


def test_unannotated_cases_by_name_and_by_folder(tiny, voxels):
    data = tiny(masks=("b",), unannotated=["a"])
    data.write("imagesUn/c_0000.nii.gz", voxels.noise())
    dataset = RawDataset.read(data.folder)
    assert [case.name for case in dataset.cases] == ["a", "b", "c"]
    assert [case.name for case in dataset.annotated_cases] == ["b"]
    assert [case.name for case in dataset.unannotated_cases] == ["a", "c"]


def test_the_explicit_block_copies_nothing(tiny, voxels, tmp_path, monkeypatch):
    scans = tmp_path / "scans"
    monkeypatch.setenv("LN_SCANS", str(scans))
    data = tiny(cases=(), masks=())
    for name in ("one.nii.gz", "two.mha", "three.nii.gz", "mask.nii.gz"):
        data.write(scans / name, voxels.cube() if name.startswith("mask") else voxels.noise())
    block = {
        "z": {"images": ["../scans/three.nii.gz"]},
        "x": {"images": ["$LN_SCANS/one.nii.gz"], "label": "${LN_SCANS}/mask.nii.gz"},
        "y": {"images": [str(scans / "two.mha")], "label": None},
    }
    data.describe(dataset=block, unannotated=["y", "z"])
    dataset = RawDataset.read(data.folder)
    assert [(case.name, case.images) for case in dataset.cases] == [
        ("x", (scans / "one.nii.gz",)),
        ("y", (scans / "two.mha",)),
        ("z", (scans / "three.nii.gz",)),
    ]
    assert [case.label for case in dataset.cases] == [scans / "mask.nii.gz", None, None]


def test_faults_of_the_explicit_block(tiny, voxels, lines, monkeypatch):
    monkeypatch.delenv("LN_SCANS", raising=False)
    data = tiny()
    block = {
        "p": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/none.nii.gz"},
        "q": {"images": ["$LN_SCANS/a.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "r": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz"]},
    }
    data.describe(dataset=block)
    of = "of dataset.json"
    assert lines(RawDataset.read, data.folder) == [
        f"lnauto: there is no file labelsTr/none.nii.gz, in case p {of}; correct the path",
        f"lnauto: there is no file $LN_SCANS/a.nii.gz, in case q {of}; set the variable LN_SCANS",
        f'lnauto: 2 images are listed, but "channel_names" declares 1, in case r {of}; '
        "list one image per channel, in their order",
        f"lnauto: the label is missing, in case r; add labelsTr/r.nii.gz, {UNANNOTATED}",
    ]


def test_regions(tiny):
    labels = {"background": 0, "any": [1, 2], "GTVn": 2, "ignore": 3}
    dataset = RawDataset.read(tiny(masks=("a", "b"), regions_class_order=[1, 2]).folder)
    data = dataset.folder / "dataset.json"
    data.write_text(json.dumps({**dataset.description, "labels": labels}))
    dataset = RawDataset.read(dataset.folder)
    assert (dataset.foreground_labels, dataset.ignore_label, dataset.node_labels) == ((1, 2), 3, (2,))


@pytest.mark.parametrize(
    ("labels", "keys", "expected"),
    [
        ({"background": 0, "node": 1}, {}, (1,)),
        ({"background": 0, "tumour": 1, "GTVn": 2, "ignore": 3}, {}, (2,)),
        ({"background": 0, "tumour": 1, "GTVn": 2}, {"node_labels": [1]}, (1,)),
        ({"background": 0, "GTVp": 1, "LN_left": 2, "LN_right": 3}, {}, (2, 3)),
        ({"background": 0, "benign": 1, "malignant": 2, "ignore": 3}, {}, (1, 2)),
    ],
)
def test_which_labels_are_lymph_nodes(labels, keys, expected, tiny):
    data = tiny()
    data.describe(labels=labels, **keys)
    assert RawDataset.read(data.folder).node_labels == expected


@pytest.mark.parametrize(
    "name", ["node", "Nodes", "lymph_node", "LymphNode", "lymphnodes", "LN", "LN7", "left-LN", "cervicalLN", "nodal", "GTVn"]
)
def test_names_of_lymph_nodes(name):
    assert names_nodes(name)


@pytest.mark.parametrize("name", ["GTVp", "GTV", "colon", "gland", "nodule", "lymphoma", "GTV_neck", "background", "kiln"])
def test_names_of_other_things(name):
    assert not names_nodes(name)


def test_a_folder_of_another_name_has_no_number(tiny, lines):
    data = tiny()
    other = data.folder.rename(data.folder.with_name("nodes"))
    dataset = RawDataset.read(other)
    assert lines(lambda: dataset.id) == [
        f"lnauto: the folder is not called DatasetNNN_Name, in {other}; rename it, like Dataset501_Nodes"
    ]


def test_a_relative_path_is_as_good(tiny, monkeypatch):
    data = tiny()
    monkeypatch.chdir(data.folder)
    dataset, problems = survey(data.folder.relative_to(data.folder))
    assert (problems, dataset.name) == ([], "Dataset501_Tiny")


def test_patients_of_cases(tiny, caplog):
    data = tiny(cases=("a", "b", "c"), masks=("a", "b", "c"))
    data.patients("patient,cases,lnm\nP1,a;b,1\n")
    with caplog.at_level(logging.INFO, logger="lnauto"):
        dataset = RawDataset.read(data.folder)
    assert dataset.patient_of == {"a": "P1", "b": "P1", "c": "c"}
    assert "1 of 3 cases have no row in Dataset501_Tiny/patients.csv" in caplog.text


def test_patients_may_be_of_test_cases(tiny, voxels):
    data = tiny()
    data.write("imagesTs/t_0000.nii.gz", voxels.noise())
    data.patients("patient,lnm\na,1\nt,0\n")
    assert RawDataset.read(data.folder).patients.patients == ("a", "t")


def test_a_table_only_data_set(tiny):
    data = tiny(cases=(), masks=(), annotation="table")
    data.describe(drop=["labels", "channel_names", "file_ending"])
    data.patients("patient,lnm,age\nP1,0,61\nP2,1,\n")
    dataset = RawDataset.read(data.folder)
    assert dataset.cases == ()
    assert dataset.patients.patients == ("P1", "P2")


def test_no_masks_but_patient_labels(tiny):
    data = tiny(masks=(), annotation="patient")
    data.describe(drop=["labels"])
    data.patients("patient,lnm\na,0\nb,1\n")
    dataset = RawDataset.read(data.folder)
    assert (len(dataset.cases), dataset.annotated_cases, dataset.labels, dataset.node_labels) == (2, (), {}, ())
