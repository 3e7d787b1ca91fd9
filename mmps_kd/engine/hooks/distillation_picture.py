"""The picture of an image as a student and its teacher see it."""

import numpy as np
import torch
from mmdet.structures import DetDataSample

from mmps_kd.models.detectors import PersonSearchDistiller
from mmps_kd.models.distillers.terms import FeatureTerm
from mmps_kd.visualization.distillation import draw_difference, feature_difference, spread_over_image
from mmps_kd.visualization.people import join_panels
from mmps_kd.visualization.scene import draw_detections
from mmps_kd.visualization.visualizer import in_pixels_of


@torch.no_grad()
def picture_distillation(
    distiller: PersonSearchDistiller, image: np.ndarray, data_batch: dict, output: DetDataSample, score_thr: float
) -> np.ndarray:
    """Draw what teacher and student detect, and for each feature loss where their features differ.

    Args:
        distiller: With a detector teacher, in eval mode.
        image: (H, W, 3) uint8 RGB, the first image of the batch.
        data_batch: As the data loader gives it.
        output: The student's prediction for the image.
        score_thr: Detections with a lower score are left out.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    first = {key: value[:1] for key, value in data_batch.items()}
    data = distiller.data_preprocessor(first, False)
    inputs, samples = data['inputs'], data['data_samples']
    theirs = distiller.teacher.extract_feat(inputs, samples)
    judged = output.new()
    judged.pred_instances = distiller.teacher.predict(inputs, samples)[0].pred_instances
    panels = []
    for name, sample in (('teacher', in_pixels_of(image, judged)), ('student', in_pixels_of(image, output))):
        found = sample.pred_instances
        panels.append(draw_detections(image, found[found.scores >= score_thr], sample.get('gt_instances'), name))
    ours = distiller.extract_feat(inputs)
    for name, term in zip(distiller.names, distiller.distillation, strict=True):
        if isinstance(term, FeatureTerm):
            adapted = term.loss.adapter(ours[term.level].float())
            difference = feature_difference(adapted[0], theirs[term.teacher_level][0])
            spread = spread_over_image(difference, inputs.shape[-2:], samples[0].img_shape)
            gap = difference.square().mean().sqrt()
            panels.append(draw_difference(image, spread, f'{name}: difference is {gap:.2f} of the teacher norm'))
    return join_panels(panels)
