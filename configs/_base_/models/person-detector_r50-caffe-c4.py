# The specialised detector: the same Faster R-CNN C4, of people alone.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py'

model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(type='SparseRoIExtractor'), bbox_head=dict(num_classes=1, reg_class_agnostic=True)
    ),
    train_cfg=dict(
        # Ignored regions of the annotations are neither people nor background.
        rpn=dict(assigner=dict(ignore_iof_thr=0.5)),
        rpn_proposal=dict(nms_pre=12000, max_per_img=2000),
        rcnn=dict(assigner=dict(ignore_iof_thr=0.5), sampler=dict(num=128, pos_fraction=0.5)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=6000, max_per_img=300),
        rcnn=dict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.4), max_per_img=300),
    ),
)
