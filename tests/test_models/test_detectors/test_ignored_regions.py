"""Ignored regions are neither people nor background."""

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

REGION = torch.tensor([[64.0, 0.0, 128.0, 96.0]])


def sampled_background(model, batch) -> torch.Tensor:
    """(N, 4) anchors and RoIs that are sampled as background."""
    torch.manual_seed(0)
    outputs = model.forward_train(batch['inputs'], batch['data_samples'])
    rpn, roi = outputs.rpn, outputs.roi
    negative = (torch.cat(rpn.label_weights, dim=1) > 0) & (torch.cat(rpn.labels, dim=1) == 1)
    return torch.cat([torch.cat(rpn.anchors, dim=1)[negative], roi.rois[roi.labels == 1, 1:]])


def test_nothing_inside_is_sampled(build_model, make_batch):
    model = build_model()
    batch = model.data_preprocessor(make_batch([([[10, 8, 40, 88]], [3])]), training=True)
    (sample,) = batch['data_samples']
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assert (bbox_overlaps(sampled_background(model, batch), REGION, mode='iof') > 0.5).any()
    sample.ignored_instances = InstanceData(bboxes=REGION, labels=torch.zeros(1, dtype=torch.long))
    assert not (bbox_overlaps(sampled_background(model, batch), REGION, mode='iof') > 0.5).any()
