# SeqNet (Li and Miao, AAAI 2021): a box head first, norm-aware re-identification on its boxes second, each with a
# conv5 of its own. Both box regressions have the published loss, smooth L1; the first one's weight is 10.
_base_ = 'person-search_r50-caffe-c4.py'

model = dict(
    roi_head=dict(
        type='SeqRoIHead',
        bbox_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=10.0)),
        second_bbox_head=dict(
            type='BBoxHead',
            with_cls=False,
            with_avg_pool=True,
            roi_feat_size=7,
            in_channels=2048,
            num_classes=1,
            reg_class_agnostic=True,
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        ),
        reid_head=dict(
            type='NormAwareReIDHead',
            with_bn=True,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        ),
        # Detections keep the first head's score.
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
                sampler=dict(type='RandomSampler', num=128, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True),
            ),
        ),
    ),
    test_cfg=dict(rcnn=dict(second=dict(nms=dict(type='nms', iou_threshold=0.5)))),
)
