"""A frozen vision transformer (DINOv2) that looks at slices; its weights come from a file of the user's, read as data.

How large it is, the file says itself: width, depth, patch and registers follow from the shapes of its tensors, and DINOv2's
heads are 64 wide in every size. So the weights that Meta and timm publish (ViT-S, -B and -L, with or without registers) load
alike, and so does a small one made for a test. `timm` builds the network.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lnauto.errors import InputError
from lnauto.files import sha256_of

HEAD_WIDTH = 64
SIDE = 224  # pixels of a slice as the transformer sees it: 256 tokens at patches of 14
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AT_ONCE = 8  # slices
KEPT_BYTES = 1 << 30  # of tokens that are kept so as not to be computed again
REMEDY = "give DINOv2's weights as Meta or timm publish them (a state dict as .pth or .safetensors: ViT-S, -B or -L)"


class FrozenViT:
    """Tokens of pictures. No module: nothing here is trained, nor saved with a head."""

    def __init__(self, network: Any, patch: int) -> None:
        self.network, self.patch = network.eval().requires_grad_(False), patch
        self.width = int(network.embed_dim)
        self.side = SIDE // patch  # tokens along a picture
        self._kept: dict[bytes, Tensor] = {}
        self._bytes = 0
        self.looked = 0  # pictures so far

    def tokens(self, pictures: Tensor) -> Tensor:
        """`pictures`: pictures, 3, SIDE, SIDE, between 0 and 1; returns pictures, rows, columns, width."""
        mean, deviation = (pictures.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        found = []
        with torch.no_grad():
            for some in ((pictures - mean) / deviation).split(AT_ONCE):
                seen = self.network.forward_features(some)[:, self.network.num_prefix_tokens :]
                found.append(seen.reshape(len(some), self.side, self.side, self.width))
        self.looked += len(pictures)
        return torch.cat(found)

    def kept(self, key: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` returns, or returned when a tensor with these very numbers came before."""
        digest = hashlib.blake2b(key.contiguous().numpy().tobytes(), digest_size=16).digest()
        if digest in self._kept:
            return self._kept[digest]
        found = compute()
        if self._bytes < KEPT_BYTES:
            self._kept[digest] = found
            self._bytes += found.numel() * found.element_size()
        return found


def file_hash(path: Path) -> str:
    """SHA-256 of a file of weights."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError.of(f"the weights cannot be read ({error.strerror or error})", path, REMEDY) from error


@lru_cache(maxsize=1)
def load_vit(path: Path, sha256: str) -> FrozenViT:
    """The network in a file, which must be the very one named: one for all the members of a head, with what it has seen."""
    if file_hash(path) != sha256:
        raise InputError.of(
            f"these are not the weights the head was trained with (their SHA-256 begins with {sha256[:12]})",
            path,
            "give the file it was trained with",
        )
    weights = read_weights(path)
    try:
        sizes = sizes_of(weights)
        network = _vision_transformer()(**sizes, num_classes=0, dynamic_img_size=True)
        network.load_state_dict(_under_timms_names(weights, network))
    except (KeyError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError.of(f"these are no weights of a ViT as DINOv2 has it ({' '.join(told)[:120]})", path, REMEDY) from error
    return FrozenViT(network, sizes["patch_size"])


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file. Nothing in it is run: what is no plain data is refused."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError.of(f"the weights cannot be read ({error.strerror or error})", path, REMEDY) from error
    except pickle.UnpicklingError as error:
        what = "this is no file of weights, or an old one that holds more than weights; nothing in it was run"
        if zipfile.is_zipfile(path):  # as torch writes them; a web page that was saved by mistake is none
            what = "this holds more than weights, and to load it may run anything; it was not run"
        raise InputError.of(what, path, REMEDY) from error
    except Exception as error:  # whatever a torn or made-up file leads to
        raise InputError.of(f"the weights cannot be read ({type(error).__name__})", path, REMEDY) from error
    for place in ("model", "state_dict", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(place), Mapping):
            content = content[place]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError.of("this holds no weights by name", path, REMEDY)
    return dict(content)


def sizes_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """What timm's VisionTransformer is built from, as the shapes of its weights tell."""
    missing = [name for name in ("cls_token", "pos_embed", "patch_embed.proj.weight") if name not in weights]
    if missing:
        raise ValueError(f"there is no {missing[0]}")
    width, channels, patch = (int(side) for side in weights["patch_embed.proj.weight"].shape[:3])
    registers = next((weights[name].shape[1] for name in ("register_tokens", "reg_token") if name in weights), 0)
    if channels != 3 or SIDE % (2 * patch) or width % HEAD_WIDTH:  # 2: heads take the mean of 2 x 2 tokens, and none may be over
        raise ValueError(f"{channels} channels, patches of {patch}, {width} wide: not DINOv2's")
    return {
        "img_size": math.isqrt(weights["pos_embed"].shape[1]) * patch,  # that of the class token, if it is there, changes nothing
        "patch_size": patch,
        "embed_dim": width,
        "depth": len({name.split(".")[1] for name in weights if name.startswith("blocks.")}),
        "num_heads": width // HEAD_WIDTH,
        "mlp_ratio": weights["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "init_values": 1e-5 if "blocks.0.ls1.gamma" in weights else None,
        "reg_tokens": int(registers),
        "no_embed_class": registers > 0,
    }


def _under_timms_names(weights: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Meta's files have a mask token, and call registers otherwise."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    converted: dict[str, Tensor] = checkpoint_filter_fn(dict(weights), network)
    return converted


def _vision_transformer() -> Any:
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError as error:
        what = "timm, which nnU-Net needs, too, is not installed"
        raise InputError.of(what, "this environment", "run pip install timm") from error
    return VisionTransformer
