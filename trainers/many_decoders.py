"""What trainers with several decoders share: they train together, the first alone is kept for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lnauto.errors import InputError
from lnauto.networks.multi_decoder import Auxiliary, MultiDecoder
from lnauto.trainers.ignore import LNTrainerIgnore


def he(module: nn.Module) -> None:
    """nnU-Net's own first weights."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=1e-2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ManyDecoders(LNTrainerIgnore):
    """Voxels that were not judged learn from what the decoders agree on."""

    deep_supervision = False  # as in the papers: each decoder answers at full resolution

    def auxiliaries(self) -> Sequence[Auxiliary]:
        """The decoders besides the plan's own."""
        raise NotImplementedError

    def loss_of_branches(self, branches: list[Tensor], target: Tensor) -> Tensor:
        """The method: from each decoder's logits (batch, class, z, y, x) in fp32 and the labels (batch, z, y, x)."""
        raise NotImplementedError

    def initialize(self) -> None:
        if self.label_manager.has_regions:
            raise InputError.of(
                f"{type(self).__name__} learns classes that exclude each other, and some labels are regions",
                "dataset.json",
                "give each label a number of its own, or use -tr LNTrainerIgnore",
            )
        self.enable_deep_supervision = self.deep_supervision
        super().initialize()

    def extend(self, network: nn.Module) -> nn.Module:
        return MultiDecoder(network, self.auxiliaries(), self.configuration_manager.patch_size).to(self.device)

    @property
    def deployed_network(self) -> nn.Module:
        bare = self.bare_network
        assert isinstance(bare, MultiDecoder)
        return bare.network

    def more_to_save(self) -> dict[str, Any]:
        bare = self.bare_network
        assert isinstance(bare, MultiDecoder)
        return {"auxiliary": bare.auxiliary.state_dict()}

    def load_more(self, more: dict[str, Any]) -> None:
        bare = self.bare_network
        assert isinstance(bare, MultiDecoder)
        bare.auxiliary.load_state_dict(more["auxiliary"])

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        assert self.compute is not None
        data = self.compute.place(batch["data"])
        target = self._to_device(batch["target"])
        self.optimizer.zero_grad(set_to_none=True)
        with self.compute.autocast():
            outputs = self.network(data)
        loss = self.loss_of_outputs(outputs, target)
        self.take_step(loss)
        return {"loss": loss.detach().cpu().numpy()}

    def loss_of_outputs(self, outputs: list[Any], target: Any) -> Tensor:
        """What the decoders answered, and the labels, as the network and the loader give them."""
        return self.loss_of_branches([output.float() for output in outputs], target[:, 0].long())
