"""What a plan may name: a plan from elsewhere is a stranger's text, and to import what it names is to run code.

nnU-Net imports and calls whatever stands in the plan. Here it must be a network of a package made for networks, and parts of
PyTorch's or of such a package; `os.system` is refused before anything is imported.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from torch import nn

from lnauto.errors import InputError

NETWORKS = ("dynamic_network_architectures", "nnunetv2", "lnauto", "monai")
PARTS = ("torch.nn", "dynamic_network_architectures", "monai")
NEURAL_ARCHITECTURES = NETWORKS[0]
WHERE = "the plan's architecture"
# Packages whose name for pip cannot be told from what is imported.
PIP_NAMES = {"mamba_ssm": "mamba-ssm", "causal_conv1d": "causal-conv1d", "skimage": "scikit-image"}


def permitted(architecture: Any) -> dict[str, Any]:
    """The architecture of a plan, its network named as it is found today; anything that is none is refused."""
    try:
        name, arguments = architecture["network_class_name"], dict(architecture["arch_kwargs"])
        parts = list(architecture["_kw_requires_import"])
        named = {part: arguments[part] for part in parts if arguments[part] is not None}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError.of(f"no network is described ({type(error).__name__}: {error})", WHERE, "restore the plan") from error
    network = _find(name, "network", NETWORKS)
    for part, value in named.items():
        _find(value, part, PARTS)
    return {
        "network_class_name": f"{network.__module__}.{network.__qualname__}",
        "arch_kwargs": arguments,
        "_kw_requires_import": parts,
    }


def _find(path: Any, role: str, packages: tuple[str, ...]) -> type[nn.Module]:
    """The class at a dotted path that lies, and was defined, in one of these packages."""
    if not isinstance(path, str) or not _lies_in(path, packages):
        raise _refused(path, role, packages)
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        missing = (error.name or path).partition(".")[0]
        if find_spec(missing) is None:
            raise _not_installed(path, role, missing) from error
        found = None
    except ImportError as error:
        raise InputError.of(f"the {role} {path} cannot be imported ({error})", WHERE, "install that package again") from error
    if found is None and path.startswith(NEURAL_ARCHITECTURES):
        found = _moved(name)
    if found is None:
        package = path.partition(".")[0]
        what = f"the {role} {path} cannot be found: {package} is here, without it"
        raise InputError.of(what, WHERE, f"install the {package} (a fork, or another version) that the model was made with")
    if not (isinstance(found, type) and issubclass(found, nn.Module) and _lies_in(f"{found.__module__}.", packages)):
        raise _refused(path, role, packages)
    return found


def _lies_in(path: str, packages: tuple[str, ...]) -> bool:
    return path.startswith(tuple(f"{package}." for package in packages))


def _moved(name: str) -> Any:
    """Plans of older versions name places that classes have left; nnU-Net searches them by name, too."""
    from lnauto.compat.networks import find_architecture

    return find_architecture(name)


def _refused(path: Any, role: str, packages: tuple[str, ...]) -> InputError:
    what = f"the plan names {path} as its {role}, which is no class of a network in {', '.join(packages)}; it was not called"
    return InputError.of(what, WHERE, "do not use this file; if it is your own, correct it")


def _not_installed(path: str, role: str, package: str) -> InputError:
    what = f"the {role} {path} cannot be imported: {package} is not installed"
    return InputError.of(what, WHERE, f"pip install {PIP_NAMES.get(package, package)}")
