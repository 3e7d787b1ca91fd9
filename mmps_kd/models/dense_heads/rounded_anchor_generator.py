"""Anchors of whole pixels, as torchvision's."""

from mmdet.models.task_modules import AnchorGenerator
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class RoundedAnchorGenerator(AnchorGenerator):
    """mmdet's ``AnchorGenerator`` with the anchors of a cell rounded to whole pixels, half to even.

    torchvision's RPN, and with it the published SeqNet, NAE and OIMNet++, rounds them; mmdet does not, which moves an
    edge by up to 0.5 pixels.
    """

    def gen_single_level_base_anchors(self, *args, **kwargs) -> Tensor:
        """Anchors (A, 4) of the first cell, x1, y1, x2, y2 in pixels."""
        return super().gen_single_level_base_anchors(*args, **kwargs).round()
