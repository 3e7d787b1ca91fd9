# SeqNet on a feature pyramid: each RoI takes its features from the level that fits its size, two heads of fully
# connected layers take the place of the two conv5. Not published: sampling and RPN are those of the pyramid's student.
_base_ = 'person-search_r50-fpn.py'

model = dict(
    roi_head=dict(
        type='SeqRoIHead',
        bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=10.0)),
        second_bbox_head=dict(
            type='Shared2FCBBoxHead',
            with_cls=False,
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
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
    ),
    train_cfg=dict(
        rcnn=dict(
            second=dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=0.5,
                    neg_iou_thr=0.5,
                    min_pos_iou=0.5,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
            ),
        ),
    ),
    test_cfg=dict(
        rcnn=dict(nms=dict(type='nms', iou_threshold=0.4), second=dict(nms=dict(type='nms', iou_threshold=0.5)))
    ),
)
