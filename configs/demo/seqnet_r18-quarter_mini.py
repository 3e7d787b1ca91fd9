# SeqNet of the demo's small student's size and budget: detection first, norm-aware re-identification second.
_base_ = 'oim_r18-quarter_mini.py'

model = dict(
    roi_head=dict(
        type='SeqRoIHead',
        bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=10.0)),
        second_bbox_head=dict(
            type='Shared2FCBBoxHead',
            with_cls=False,
            in_channels=64,
            fc_out_channels=128,
            roi_feat_size=(8, 4),
            num_classes=1,
            reg_class_agnostic=True,
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        ),
        reid_head=dict(
            type='NormAwareReIDHead', loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)
        ),
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
                sampler=dict(type='RandomSampler', num=64, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True),
            ),
        ),
    ),
    test_cfg=dict(rcnn=dict(second=dict(nms=dict(type='nms', iou_threshold=0.5)))),
)

val_evaluator = dict(weight_by_score=True)
test_evaluator = val_evaluator
