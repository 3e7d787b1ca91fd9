# What all SeqNets have in common (Li and Miao, AAAI 2021). Both box regressions have the published loss, smooth L1; the
# first one's weight is 10. Detections keep the first head's score.
seq_roi_head = dict(
    type='SeqRoIHead',
    bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=10.0)),
    second_bbox_head=dict(
        with_cls=False,
        num_classes=1,
        reg_class_agnostic=True,
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
    ),
    reid_head=dict(
        type='NormAwareReIDHead',
        with_bn=True,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    first_cls_score=True,
)
second_training = dict(
    assigner=dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.5,
        match_low_quality=False,
        ignore_iof_thr=0.5,
    ),
    sampler=dict(type='RandomSampler', num=128, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True),
)
second_test = dict(nms=dict(type='nms', iou_threshold=0.5))
