# The specialised detector on a feature pyramid: Faster R-CNN of people alone.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(type='SparseRoIExtractor'), bbox_head=dict(num_classes=1, reg_class_agnostic=True)
    ),
    # Ignored regions of the annotations are neither people nor background.
    train_cfg=dict(rpn=dict(assigner=dict(ignore_iof_thr=0.5)), rcnn=dict(assigner=dict(ignore_iof_thr=0.5))),
    test_cfg=dict(rcnn=dict(score_thr=0.5)),
)
