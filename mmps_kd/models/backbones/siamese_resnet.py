"""ResNet over a query and a gallery image, with query-guided squeeze and excitation between them (QEEPS)."""

import torch
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmps_kd.errors import UserError

START_BIAS = 3.0
"""Logit of all weights before training: sigmoid(3) = 0.95."""


@MODELS.register_module()
class QSSE(BaseModule):
    """Query-guided Siamese squeeze and excitation (Munjal et al., CVPR 2019).

    The means of both feature maps over space, concatenated, give one weight a channel; the same weights multiply
    query and gallery. Before training all weights are 0.95, whatever the images, so that pretrained features keep
    their meaning; that start is this project's choice.

    Args:
        channels: Channels C of either map.
        ratio: The bottleneck has C / ``ratio`` channels, one at least.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(channels // ratio, 1)
        self.squeeze = nn.Linear(2 * channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        # Here, not in init_weights: a backbone with pretrained weights does not call its children's.
        nn.init.zeros_(self.excite.weight)
        nn.init.constant_(self.excite.bias, START_BIAS)

    def forward(self, query: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
        """Re-weight the channels of both.

        Args:
            query: (B, C, Hq, Wq).
            gallery: (B, C, Hg, Wg), of any size.

        Returns:
            Both, of the same shapes.
        """
        pooled = torch.cat([query.mean(dim=(2, 3)), gallery.mean(dim=(2, 3))], dim=1)
        weights = self.excite(self.squeeze(pooled).relu()).sigmoid()[:, :, None, None]
        return query * weights, gallery * weights


@MODELS.register_module()
class SiameseResNet(ResNet):
    """mmdet's ResNet with :class:`QSSE` between the two images of a pair.

    Both images go through the same layers, each by itself: they may differ in size, and neither is padded for the
    other. But for the keys under ``qsse``, the state dict is that of ResNet.

    An image without a partner is paired with itself. Without ``qsse`` this is a ResNet.

    Args:
        qsse: ``dict(ratio=16, at='block', stages=(1, 2))``; None for no QSSE. ``at='block'``: on the residual branch of
            every block, before the addition, as in SE-ResNet; ``'stage'``: once after each stage, which is cheaper.
            ``stages`` counts from 0, as ``out_indices`` does.
        **kwargs: As for mmdet's ``ResNet``, with the last stage as its only output.

    Raises:
        UserError: If the stages do not fit, or blocks have parts that cannot be run on pairs.
    """

    def __init__(self, qsse: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if tuple(self.out_indices) != (self.num_stages - 1,):
            raise UserError(f'SiameseResNet gives its last stage alone: set out_indices=({self.num_stages - 1},)')
        self.qsse = nn.ModuleDict()
        self.first_guided = self.num_stages
        if qsse is not None:
            self._add_qsse(**qsse)

    def _add_qsse(self, ratio: int = 16, at: str = 'block', stages: tuple[int, ...] = (1, 2)) -> None:
        if at not in ('block', 'stage'):
            raise UserError(f"SiameseResNet: qsse.at must be 'block' or 'stage', got {at!r}")
        if not stages or not set(stages) <= set(range(self.num_stages)):
            raise UserError(f'SiameseResNet: qsse.stages={tuple(stages)} must be among 0 to {self.num_stages - 1}')
        if at == 'block' and (self.with_cp or self.plugins):
            raise UserError("SiameseResNet: with_cp and plugins do not go with qsse.at='block'")
        self.at, self.first_guided = at, min(stages)
        for stage in stages:
            channels = self.base_channels * 2**stage * self.block.expansion
            count = self.stage_blocks[stage] if at == 'block' else 1
            self.qsse[self.res_layers[stage]] = nn.ModuleList(QSSE(channels, ratio) for _ in range(count))

    @property
    def is_guided(self) -> bool:
        """Whether an image's features depend on its partner."""
        return len(self.qsse) > 0

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Feature map of images (B, 3, H, W), each paired with itself."""
        return (self._run_guided([self.independent(x)])[0],)

    def forward_pair(self, query: Tensor, gallery: Tensor) -> tuple[tuple[Tensor], tuple[Tensor]]:
        """Feature maps of B pairs.

        Args:
            query: (B, 3, Hq, Wq).
            gallery: (B, 3, Hg, Wg).

        Returns:
            Feature maps of the query images and of the gallery images, each (B, C, H, W).
        """
        return self.dependent(self.independent(query), self.independent(gallery))

    def independent(self, x: Tensor) -> Tensor:
        """The part that does not depend on the partner: stem and stages before the first QSSE.

        Args:
            x: (B, 3, H, W).

        Returns:
            (B, C, H, W), the state that :meth:`dependent` goes on from; without QSSE the last feature map.
        """
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        x = self.maxpool(x)
        for name in self.res_layers[: self.first_guided]:
            x = getattr(self, name)(x)
        return x

    def dependent(self, query: Tensor, gallery: Tensor) -> tuple[tuple[Tensor], tuple[Tensor]]:
        """The part that depends on the partner, from two states of :meth:`independent`."""
        query, gallery = self._run_guided([query, gallery])
        return (query,), (gallery,)

    def _run_guided(self, maps: list[Tensor]) -> list[Tensor]:
        """Run the stages from the first QSSE on; ``maps`` are query and gallery, or one that is its own partner."""
        for name in self.res_layers[self.first_guided :]:
            layer = getattr(self, name)
            if name not in self.qsse:
                maps = [layer(x) for x in maps]
            elif self.at == 'stage':
                maps = excite(self.qsse[name][0], [layer(x) for x in maps])
            else:
                for block, qsse in zip(layer, self.qsse[name], strict=True):
                    maps = run_block(block, qsse, maps)
        return maps


def excite(qsse: QSSE, maps: list[Tensor]) -> list[Tensor]:
    """Re-weight query and gallery, or one image that is its own partner."""
    return list(qsse(maps[0], maps[-1]))[: len(maps)]


def run_block(block: nn.Module, qsse: QSSE, maps: list[Tensor]) -> list[Tensor]:
    """One residual block of mmdet on each image, the residual branches re-weighted before the addition."""
    branches = excite(qsse, [residual(block, x) for x in maps])
    shortcuts = maps if block.downsample is None else [block.downsample(x) for x in maps]
    return [block.relu(branch + shortcut) for branch, shortcut in zip(branches, shortcuts, strict=True)]


def residual(block: nn.Module, x: Tensor) -> Tensor:
    """The residual branch of mmdet's ``BasicBlock`` or ``Bottleneck``, before the addition."""
    x = block.relu(block.norm1(block.conv1(x)))
    x = block.norm2(block.conv2(x))
    return block.norm3(block.conv3(block.relu(x))) if isinstance(block, Bottleneck) else x
