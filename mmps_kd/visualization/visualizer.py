"""Ground truth and detections of person search in one picture, for MMEngine's backends."""

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.visualization import DetLocalVisualizer
from mmengine.dist import master_only

from .draw import draw_detections, draw_ground_truth, join_panels


@VISUALIZERS.register_module()
class PersonSearchVisualizer(DetLocalVisualizer):
    """mmdet's visualizer, with the ground truth left and the detections right, each identity in its own colour.

    An identity has the same colour in every picture; see :func:`draw_ground_truth` and :func:`draw_detections`. Any
    of MMEngine's backends takes the pictures.

    Args:
        **kwargs: As for MMEngine's ``Visualizer``: ``name``, ``vis_backends``, ``save_dir``.
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample,
        draw_gt: bool = True,
        draw_pred: bool = True,
        pred_score_thr: float = 0.3,
        **kwargs,
    ) -> None:
        """Draw what there is of ground truth and detections, and hand it to all backends.

        Args:
            name: Name of the picture.
            image: (H, W, 3) uint8 RGB: the original image or the network's input.
            data_sample: Sample with ``gt_instances`` in network input pixels (``bboxes``, ``pids``), as the pipeline
                gives them, and ``pred_instances`` in original pixels (``bboxes``, ``scores``), as the model does.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the detections.
            pred_score_thr: Detections with a lower score are left out.
            **kwargs: ``show``, ``wait_time``, ``out_file`` and ``step`` of mmdet's ``DetLocalVisualizer``.
        """
        sample = in_pixels_of(image, data_sample)
        people, panels = sample.get('gt_instances'), []
        if draw_gt and people is not None:
            panels.append(draw_ground_truth(image, people))
        if draw_pred and 'pred_instances' in sample:
            found = sample.pred_instances
            panels.append(draw_detections(image, found[found.scores >= pred_score_thr], people))
        drawn = join_panels(panels) if panels else image
        super().add_datasample(name, drawn, None, **kwargs)


def in_pixels_of(image: np.ndarray, data_sample: DetDataSample) -> DetDataSample:
    """A copy of a sample on the CPU, all boxes in pixels of an image.

    Args:
        image: (H, W, 3), the original image or the network's input.
        data_sample: See :meth:`PersonSearchVisualizer.add_datasample`.
    """
    sample = DetDataSample(metainfo=data_sample.metainfo)
    for field, shape in (('gt_instances', sample.img_shape), ('pred_instances', sample.ori_shape)):
        if field in data_sample:
            instances = data_sample.get(field).cpu()
            boxes = get_box_tensor(instances.bboxes)
            factor = boxes.new_tensor([image.shape[1] / shape[1], image.shape[0] / shape[0]])
            instances.bboxes = boxes * factor.repeat(2)
            sample.set_data({field: instances})
    return sample
