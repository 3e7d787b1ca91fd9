# Detect+OIM on a feature pyramid: each RoI takes its features from the level that fits its size.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    type='PersonSearchRCNN',
    rpn_head=dict(type='SampledRPNHead'),
    roi_head=dict(
        type='ReIDRoIHead',
        bbox_roi_extractor=dict(type='SparseRoIExtractor'),
        bbox_head=dict(num_classes=1, reg_class_agnostic=True),
        reid_head=dict(
            type='ReIDHead',
            in_channels=256,
            # Without a shared head the linear layer reads all 7x7 cells, so that it knows head from feet.
            with_avg_pool=False,
            roi_feat_size=7,
            feat_channels=256,
            loss_oim=dict(
                type='OIMLoss', num_identities=5532, queue_size=5000, momentum=0.5, temperature=1 / 30, loss_weight=1.0
            ),
        ),
    ),
    # Ignored regions of the annotations are neither people nor background.
    train_cfg=dict(rpn=dict(assigner=dict(ignore_iof_thr=0.5)), rcnn=dict(assigner=dict(ignore_iof_thr=0.5))),
    test_cfg=dict(rcnn=dict(score_thr=0.5)),
)
