"""Models from elsewhere: stored as they are, and never run."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stock_models import LABELS, PATCH, stock_plans, train_stock

from lnauto.errors import InputError
from lnauto.files import replacing_folder
from lnauto.inference.foundation import Foundation, find_foundation, find_foundations
from lnauto.inference.model import build_network
from lnauto.networks.permitted import permitted
from lnauto.paths import activate

Command = Callable[..., tuple[int, str, str]]
FINAL = "fold_0/checkpoint_final.pth"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Result folders of stock nnU-Net: residual (ResEnc-M's class) and plain."""
    return {residual: train_stock(tmp_path_factory.mktemp("stock"), stock_plans(residual)) for residual in (True, False)}


@pytest.fixture
def model(made: dict[bool, Path], folders: Path) -> Path:
    """A copy of the residual one, which a test may spoil; imported models go to folders of the test's own."""
    return Path(shutil.copytree(made[True], folders / made[True].parent.name / made[True].name))


def output_of(network: torch.nn.Module) -> torch.Tensor:
    image = torch.linspace(-2, 2, 1 * 16**3).reshape(1, 1, *PATCH).sin()
    with torch.no_grad():
        output: torch.Tensor = network.eval()(image)
    return output


def stock_output(model: Path) -> torch.Tensor:
    """What nnU-Net itself computes with the checkpoint in a result folder."""
    from lnauto.compat.networks import get_network_from_plans
    from lnauto.compat.plans import PlansManager

    chosen = PlansManager(json.loads((model / "plans.json").read_text())).get_configuration("3d_fullres")
    network = get_network_from_plans(
        chosen.network_arch_class_name,
        chosen.network_arch_init_kwargs,
        chosen.network_arch_init_kwargs_req_import,
        1,
        2,
        deep_supervision=False,
    )
    network.load_state_dict(torch.load(model / FINAL, weights_only=False)["network_weights"])
    return output_of(network)


def imported(name: str = "theirs") -> Foundation:
    return find_foundation(name, activate().results)


def refusal(command: Command, *arguments: object) -> str:
    """The one line a refused import ends with, which leaves nothing behind."""
    before = find_foundations(activate().results)
    code, _, complaint = command("import_model", "--name", "theirs", *arguments)
    assert code == 2
    assert complaint.count("\n") == 1
    folder = activate().results / "foundations"
    assert sorted(each.name for each in folder.glob("*")) == before
    return complaint


def edit_plans(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plans = json.loads((model / "plans.json").read_text())
    change(plans)
    (model / "plans.json").write_text(json.dumps(plans))


def edit_checkpoint(model: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write what `change` makes of a checkpoint's content in its place."""
    content = torch.load(model / FINAL, weights_only=False)
    torch.save(change(content), model / FINAL)
    return model / FINAL


@pytest.mark.parametrize("residual", [True, False], ids=["resenc", "plain"])
def test_a_stock_model_computes_the_same_before_and_after(
    made: dict[bool, Path], folders: Path, command: Command, residual: bool
) -> None:
    code, out, complaint = command("import_model", made[residual], "--name", "theirs")
    assert (code, complaint) == (0, "")
    foundation = imported()
    assert torch.equal(output_of(foundation.network()), stock_output(made[residual]))
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    count = sum(each.numel() for each in foundation.network().parameters())
    for expected in (
        f"unet.{kind}, {count:,} parameters",
        "CT (CTNormalization)",
        "background 0, node 1",
        "2.0 x 1.5 x 1.5 mm",
        "16 x 16 x 16 voxels",
        "nnUNetTrainer",
        "3d_fullres",
        "1 epochs",
    ):
        assert expected in out
    assert foundation.description["parameters"] == count
    assert foundation.description["unpickled"] is False
    assert (foundation.trainer, foundation.configuration) == ("nnUNetTrainer", "3d_fullres")
    assert foundation.dataset_json["labels"] == LABELS["labels"]
    assert torch.load(foundation.folder / "weights.pth", weights_only=True).keys() == {"network_weights"}
    assert sorted(each.name for each in foundation.folder.iterdir()) == [
        "dataset.json",
        "foundation.json",
        "plans.json",
        "weights.pth",
    ]


def test_our_own_model_computes_the_same_before_and_after(balls: Path, command: Command) -> None:
    from lnauto.inference.model import load_model
    from lnauto.workflow.train import Request, train

    model = train("901", ["0"], Request(iterations=2, device="cpu", workers=0, quiet=True))
    code, out, complaint = command("import_model", model, "--name", "ours")
    assert (code, complaint) == (0, "")
    assert "2 iterations" in out
    ours, image = load_model(model, ["0"]).load_network(0), torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(imported("ours").network()(image), ours(image))


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch payload_ran",))


def test_a_planted_payload_is_named_and_does_not_run_unless_trusted(model: Path, command: Command) -> None:
    edit_checkpoint(model, lambda content: {**content, "trick": Payload()})
    complaint = refusal(command, model)
    assert "to load this file is to run posix.system" in complaint or "to load this file is to run nt.system" in complaint
    assert "--trust-checkpoint" in complaint
    assert not Path("payload_ran").exists()
    code, out, _ = command("import_model", model, "--name", "theirs", "--trust-checkpoint")
    assert code == 0
    assert Path("payload_ran").exists()
    assert "was unpickled, as --trust-checkpoint allows" in out
    assert imported().description["unpickled"] is True
    Path("payload_ran").unlink()
    assert torch.equal(output_of(imported().network()), stock_output(model))  # which unpickles stock's file, and it runs again
    Path("payload_ran").unlink()
    imported().network()
    assert not Path("payload_ran").exists()


def test_other_pickled_things_are_named(model: Path, command: Command) -> None:
    edit_checkpoint(model, lambda content: {**content, "path": Path("somewhere")})
    assert "to load this file is to run pathlib." in refusal(command, model)


def test_the_allowance_for_numbers_ends_with_the_import(model: Path, command: Command) -> None:
    before = set(torch.serialization.get_safe_globals())
    assert command("import_model", model, "--name", "theirs")[0] == 0
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_torn_checkpoint_is_told(model: Path, command: Command) -> None:
    whole = (model / FINAL).read_bytes()
    (model / FINAL).write_bytes(whole[: len(whole) // 2])
    complaint = refusal(command, model)
    assert "the checkpoint cannot be read" in complaint
    assert "it may be cut off: copy it again" in complaint
    (model / FINAL).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "this is no checkpoint that could be read as data" in refusal(command, model)


def test_a_checkpoint_alone_needs_nothing_if_it_says_itself_what_it_is(model: Path, folders: Path, command: Command) -> None:
    alone = Path(shutil.copy(model / FINAL, folders / "alone.pth"))
    assert command("import_model", alone, "--name", "theirs")[0] == 0
    assert torch.equal(output_of(imported().network()), stock_output(model))
    assert imported().plans["plans_name"] == "nnUNetResEncUNetMPlans"


def test_bare_weights_take_plans_and_labels_from_beside_or_from_flags(model: Path, folders: Path, command: Command) -> None:
    expected = stock_output(model)
    (folders / "release").mkdir()
    bare = folders / "release/weights.pth"
    torch.save(torch.load(model / FINAL, weights_only=False)["network_weights"], bare)
    assert "there is no plans beside the checkpoint, nor in it" in refusal(command, bare)
    shutil.copy(model / "plans.json", folders / "release/nnUNetPlans.json")
    assert "there is no dataset.json beside the checkpoint, nor in it" in refusal(command, bare)
    assert command("import_model", bare, "--name", "a", "--dataset-json", model / "dataset.json")[0] == 0
    (folders / "release/nnUNetPlans.json").unlink()
    flags = ["--plans", model / "plans.json", "--dataset-json", model / "dataset.json"]
    assert command("import_model", bare, "--name", "b", *flags)[0] == 0
    for name in "ab":
        assert torch.equal(output_of(imported(name).network()), expected)
    assert imported("b").trainer == "unknown"


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (lambda own: {f"module._orig_mod.{name}": value for name, value in own.items()}, "'module.' was taken off"),
        (lambda own: {"n_averaged": torch.tensor(3), **{f"module.{n}": v for n, v in own.items()}}, "'module.' was taken off"),
        (
            lambda own: {f"model.{n}": v + 1 for n, v in own.items()} | {f"ema_model.{n}": v for n, v in own.items()},
            "tensors of a further copy of the network were left out",
        ),
    ],
    ids=["wrapped", "averaged", "two copies"],
)
def test_what_wrappers_put_before_the_names_is_taken_off_and_said(
    model: Path, command: Command, wrap: Callable[[Any], Any], told: str
) -> None:
    expected = stock_output(model)
    edit_checkpoint(model, lambda content: {**content, "network_weights": wrap(content["network_weights"])})
    code, out, complaint = command("import_model", model, "--name", "theirs")
    assert (code, complaint) == (0, "")
    assert told in out
    assert torch.equal(output_of(imported().network()), expected)


def test_weights_under_another_key_are_found_and_a_second_set_is_mentioned(model: Path, command: Command) -> None:
    expected = stock_output(model)

    def rename(content: dict[str, Any]) -> dict[str, Any]:
        weights = content.pop("network_weights")
        return {**content, "state_dict": {name: value + 1 for name, value in weights.items()}, "ema_state_dict": weights}

    edit_checkpoint(model, rename)
    code, out, _ = command("import_model", model, "--name", "theirs")
    assert code == 0
    assert "the weights lay under 'ema_state_dict'" in out
    assert "those under state_dict were left out" in out
    assert torch.equal(output_of(imported().network()), expected)


def without_first(weights: dict[str, Any]) -> dict[str, Any]:
    return dict(list(weights.items())[1:])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_first, "encoder.stem.convs.0.conv.weight is missing (--plans)"),
        (lambda own: {**own, "extra.weight": torch.ones(3)}, "extra.weight is not of this network"),
        (
            lambda own: {name: value[:1] for name, value in own.items()},
            "encoder.stem.convs.0.conv.weight is 1x1x3x3x3 and not 4x1x3x3x3, and ",
        ),
        (lambda own: {**own, "encoder.stem.convs.0.conv.bias": torch.full((4,), torch.nan)}, "the weights hold NaN or infinity"),
        (lambda own: {**own, "encoder": [1, 2]}, "among the weights encoder is no tensor"),
        (lambda own: {}, "this checkpoint holds no weights"),
    ],
    ids=["missing", "surplus", "shape", "nan", "no tensor", "none"],
)
def test_weights_that_do_not_fit_are_refused(model: Path, command: Command, change: Callable[[Any], Any], told: str) -> None:
    edit_checkpoint(model, lambda content: {**content, "network_weights": change(content["network_weights"])})
    for part in told.split(" ("):
        assert part.rstrip(")") in refusal(command, model)


def architecture_of(plans: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = plans["configurations"]["3d_fullres"]["architecture"]
    return described


def set_network(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda plans: architecture_of(plans).update(network_class_name=name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("os.system", "the plan names os.system as its network"),
        ("nnunetv2.run.run_training.os.system", "the network nnunetv2.run.run_training.os.system cannot be found"),
        ("nnunetv2.run.run_training.run_training", "the plan names nnunetv2.run.run_training.run_training as its network"),
        ("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.DDP", "DDP as its network, which is no class of a network"),
        ("mamba_ssm.Mamba", "no class of a network in dynamic_network_architectures, nnunetv2, lnauto, monai"),
        ("nnunetv2.nets.UMambaBot_3d.UMambaBot", "install the nnunetv2 (a fork, or another version)"),
        ("dynamic_network_architectures.architectures.unet.NoSuchNet", "NoSuchNet cannot be found"),
        (7, "the plan names 7 as its network"),
    ],
)
def test_a_class_that_is_no_network_is_named_and_refused(model: Path, command: Command, name: Any, told: str) -> None:
    edit_plans(model, set_network(name))
    assert told in refusal(command, model)


def test_what_a_plan_names_is_refused_before_it_is_imported(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("stranger.py").write_text("from pathlib import Path\nPath('stranger_ran').touch()\nNet = None\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    edit_plans(model, set_network("stranger.Net"))
    assert "the plan names stranger.Net as its network" in refusal(command, model)
    edit_plans(model, set_network(architecture_of(stock_plans())["network_class_name"]))
    edit_plans(
        model, lambda plans: plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(conv_op="stranger.Net")
    )
    assert "the plan names stranger.Net as its conv_op" in refusal(command, model)
    assert not Path("stranger_ran").exists()


def test_a_package_that_is_missing_is_named(model: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)  # as if it were not installed
    edit_plans(model, set_network("monai.networks.nets.Net"))
    assert "monai is not installed, in the plan's architecture; pip install monai" in refusal(command, model)


def test_a_package_that_a_networks_module_needs_is_named(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As U-Mamba's networks, which lie in a fork of nnU-Net's."""
    from lnauto import networks

    (tmp_path / "of_a_fork.py").write_text("import mamba_ssm\n")
    monkeypatch.setattr(networks, "__path__", [str(tmp_path), *networks.__path__])
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    edit_plans(model, set_network("lnauto.networks.of_a_fork.Net"))
    assert "mamba_ssm is not installed, in the plan's architecture; pip install mamba-ssm" in refusal(command, model)


@pytest.mark.parametrize("value", ["os.system", "torch.hub.load", "torch.nn.functional.conv3d", "builtins.eval", ["list"]])
def test_a_part_that_is_no_module_of_pytorchs_is_refused_wherever_a_network_is_built(value: Any) -> None:
    from lnauto.compat.plans import PlansManager

    plans = stock_plans()
    architecture_of(plans)["arch_kwargs"]["nonlin"] = value
    with pytest.raises(InputError, match="as its nonlin, which is no class of a network"):
        build_network(PlansManager(plans), "3d_fullres", LABELS, deep_supervision=False)


def test_plans_of_older_versions_are_brought_to_todays_form(made: dict[bool, Path], folders: Path, command: Command) -> None:
    model = Path(shutil.copytree(made[False], folders / "old" / made[False].name))
    expected = stock_output(model)

    def make_old(plans: dict[str, Any]) -> None:
        fullres = plans["configurations"]["3d_fullres"]
        settings = fullres.pop("architecture")["arch_kwargs"]
        fullres |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": settings["n_conv_per_stage"],
            "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [2, 2, 2],
            "pool_op_kernel_sizes": settings["strides"],
            "conv_kernel_sizes": settings["kernel_sizes"],
        }
        plans["configurations"] = {"3d_fullres": {**fullres}, "3d_fullres_bs4": {"inherits_from": "3d_fullres", "batch_size": 4}}
        plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
        del plans["label_manager"]

    edit_plans(model, make_old)
    code, out, complaint = command("import_model", model, "--name", "theirs")
    assert (code, complaint) == (0, "")
    assert "the plans are of an older nnU-Net" in out
    foundation = imported()
    assert list(foundation.plans["configurations"]) == ["3d_fullres"]
    assert foundation.plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] == [4, 8, 8]
    assert "0" in foundation.plans["foreground_intensity_properties_per_channel"]
    assert torch.equal(output_of(foundation.network()), expected)


def test_a_network_class_that_has_moved_is_found(model: Path, command: Command) -> None:
    edit_plans(model, set_network("dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"))
    assert command("import_model", model, "--name", "theirs")[0] == 0
    assert imported().description["architecture"] == "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


def test_a_configuration_that_inherits_is_stored_complete(model: Path, folders: Path, command: Command) -> None:
    """As released foundation models are set up: a configuration of their own beside stock's."""
    own = model.with_name(model.name.replace("3d_fullres", "3d_large"))
    model.rename(own)
    edit_plans(own, lambda plans: plans["configurations"].update({"3d_large": {"inherits_from": "3d_fullres", "batch_size": 4}}))
    edit_checkpoint(own, lambda content: {**content, "init_args": {**content["init_args"], "configuration": "3d_large"}})
    assert command("import_model", own, "--name", "theirs")[0] == 0
    stored = imported()
    assert stored.plans["configurations"].keys() == {"3d_large"}
    assert stored.plans["configurations"]["3d_large"]["batch_size"] == 4
    assert "inherits_from" not in stored.plans["configurations"]["3d_large"]
    assert stored.configuration == "3d_large"
    stored.network()


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ("2d", "configuration 2d is two-dimensional"),
        ("3d_lowres", "configuration 3d_lowres is the first network of a cascade, at low resolution"),
        ("3d_cascade_fullres", "configuration 3d_cascade_fullres is the second network of a cascade"),
        ("3d_none", "the plans have no configuration 3d_none (they have 2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres)"),
    ],
)
def test_what_is_no_full_resolution_volume_is_refused(model: Path, command: Command, configuration: str, told: str) -> None:
    edit_checkpoint(model, lambda content: {**content, "init_args": {**content["init_args"], "configuration": configuration}})
    assert told in refusal(command, model)


def test_the_model_meant_is_found_in_the_data_sets_folder(model: Path, command: Command) -> None:
    shutil.copytree(model, model.with_name(model.name.replace("3d_fullres", "2d")))
    dataset, results = model.parent, model.parent.parent
    assert command("import_model", dataset, "--name", "a")[0] == 0
    assert "configuration" in imported("a").description
    shutil.copytree(model, model.with_name(f"Other{model.name}"))
    complaint = refusal(command, dataset)
    assert "there are 2 models (OthernnUNetTrainer__" in complaint
    assert "give the folder of the one you mean" in complaint
    assert command("import_model", model / "fold_0", "--name", "b")[0] == 0
    assert "the model was trained in configuration 3d_fullres, not 2d" in refusal(command, model, "-c", "2d")
    (results / "empty").mkdir()
    assert "there is no checkpoint of nnU-Net's in this folder" in refusal(command, results / "empty")
    assert "there is no such file or folder" in refusal(command, results / "nowhere")


def test_the_fold_is_all_then_the_lowest_unless_named(model: Path, command: Command) -> None:
    def fold(name: str, *arguments: object) -> tuple[str, str]:
        code, out, _ = command("import_model", model, "--name", name, *arguments)
        assert code == 0
        return Path(imported(name).description["source"]).parent.name, out

    (model / "fold_0").rename(model / "fold_3")
    shutil.copytree(model / "fold_3", model / "fold_1")
    taken, out = fold("a")
    assert taken == "fold_1"
    assert "of the folds 1, 3, 1 was taken" in out
    shutil.copytree(model / "fold_3", model / "fold_all")
    assert fold("b")[0] == "fold_all"
    assert fold("c", "-f", 3)[0] == "fold_3"
    assert "there is no checkpoint of fold 7 (there: 1, 3, all)" in refusal(command, model, "-f", 7)
    (model / "fold_3/checkpoint_final.pth").rename(model / "fold_3/checkpoint_best.pth")
    assert "there is no checkpoint_final.pth, so checkpoint_best.pth was taken" in fold("d", "-f", 3)[1]


@pytest.mark.parametrize(
    "name", ["two__parts", "_begins", "ends_", "../up", "a/b", "", ".", "späh", "with space", "x" * 65, "n\n"]
)
def test_names_that_would_harm_a_path_or_a_plan_are_refused(model: Path, command: Command, name: str) -> None:
    code, _, complaint = command("import_model", model, "--name", name)
    assert code == 2
    assert "cannot be the name of a foundation model" in complaint
    assert not (activate().results / "foundations").exists()


def test_a_name_that_is_taken_is_kept_unless_it_is_to_be_replaced(model: Path, made: dict[bool, Path], command: Command) -> None:
    assert command("import_model", made[False], "--name", "LN-FM_2")[0] == 0
    before = {each.name: each.read_bytes() for each in imported("LN-FM_2").folder.iterdir()}
    code, _, complaint = command("import_model", model, "--name", "LN-FM_2")
    assert code == 2
    assert "there is a foundation model LN-FM_2 already" in complaint
    assert {each.name: each.read_bytes() for each in imported("LN-FM_2").folder.iterdir()} == before
    assert command("import_model", model, "--name", "LN-FM_2", "--overwrite")[0] == 0
    assert imported("LN-FM_2").description["architecture"].endswith("ResidualEncoderUNet")
    assert [each.name for each in imported("LN-FM_2").folder.parent.iterdir()] == ["LN-FM_2"]


def test_a_kill_while_storing_leaves_what_was_there(
    model: Path, made: dict[bool, Path], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("import_model", made[False], "--name", "theirs")[0] == 0
    before = copy.deepcopy(imported().description)
    save = torch.save

    def torn(content: object, path: Path) -> None:
        save(content, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    assert command("import_model", model, "--name", "theirs", "--overwrite")[0] == 130
    assert imported().description == before
    assert command("import_model", model, "--name", "new")[0] == 130
    assert [each.name for each in imported().folder.parent.iterdir()] == ["theirs"]


def test_what_a_kill_between_two_renames_moved_away_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".theirs.old").mkdir()
    (tmp_path / ".theirs.old/kept").touch()
    (tmp_path / ".theirs.new").mkdir()

    def store(fail: bool) -> None:
        with replacing_folder(tmp_path / "theirs") as temporary:
            (temporary / "written").touch()
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(fail=True)
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["theirs", "theirs/kept"]
    store(fail=False)
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["theirs", "theirs/written"]


@pytest.mark.parametrize(("version", "warned"), [("2.8.1+cpu", True), ("2.10.0", False)])
def test_a_pytorch_that_can_be_harmed_is_warned_of(
    model: Path, command: Command, monkeypatch: pytest.MonkeyPatch, version: str, warned: bool
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    code, out, _ = command("import_model", model, "--name", "theirs")
    assert code == 0
    assert (f"PyTorch {version} can be harmed by a made-up checkpoint" in out) is warned


def test_weights_that_were_exchanged_are_noticed(model: Path, command: Command) -> None:
    assert command("import_model", model, "--name", "theirs")[0] == 0
    foundation = imported()
    torch.save({"network_weights": {n: v + 1 for n, v in foundation.weights().items()}}, foundation.folder / "weights.pth")
    with pytest.raises(InputError, match="the weights are not those that were imported"):
        foundation.network()


def test_a_name_that_is_not_there_is_told_with_those_that_are(model: Path, command: Command) -> None:
    assert command("import_model", model, "--name", "theirs")[0] == 0
    with pytest.raises(InputError, match=r"there is no foundation model other \(there: theirs\)"):
        imported("other")
    with pytest.raises(InputError, match="there is no foundation model"):
        imported("../foundations/theirs")


def test_a_network_of_todays_plans_keeps_its_description() -> None:
    described = architecture_of(stock_plans())
    assert permitted(described) == described
