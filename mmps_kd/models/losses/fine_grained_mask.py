"""The neighbourhood of people on a feature map, for fine-grained imitation."""

from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor


def fine_grained_mask(
    anchors: Tensor, boxes: Tensor, feature_size: tuple[int, int], num_anchors: int, factor: float = 0.5
) -> Tensor:
    """Mark the cells whose anchors fit a true box about as well as any anchor does (Wang et al., CVPR 2019).

    A cell belongs to a box if one of its anchors has an IoU above ``factor`` times the largest IoU that any anchor
    has with this box; a box that no anchor touches has no cells. The mask is the union over the boxes.

    Anchors and boxes share one frame, the pixels of the network's input, so nothing is rescaled here and padding
    shifts nothing. A person at the edge of the image may claim cells of the padding beside it, where its anchors
    still fit; who knows the padding takes them out.

    Args:
        anchors: (H * W * A, 4), x1 y1 x2 y2, cells row by row and the A anchors of a cell together, as mmdet's
            ``AnchorGenerator.grid_priors`` gives them for the padded map.
        boxes: (G, 4), x1 y1 x2 y2; G may be 0.
        feature_size: Height H and width W of the padded feature map.
        num_anchors: A, anchors a cell.
        factor: In [0, 1); larger is narrower.

    Returns:
        (H, W) bool, all False without boxes.
    """
    overlaps = bbox_overlaps(anchors, boxes)
    fits = (overlaps > factor * overlaps.amax(dim=0)).any(dim=1)
    return fits.reshape(*feature_size, num_anchors).any(dim=2)
