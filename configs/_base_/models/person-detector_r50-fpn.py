# The specialised detector on a feature pyramid: Faster R-CNN of people alone.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1, reg_class_agnostic=True)), test_cfg=dict(rcnn=dict(score_thr=0.5))
)
