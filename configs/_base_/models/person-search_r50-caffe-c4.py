# Detect+OIM (Xiao et al., CVPR 2017): Faster R-CNN C4 with a re-identification branch on the shared RoI features.
# RPN, sampling and test settings are those of today's person-search codebases.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py'

model = dict(
    type='PersonSearchRCNN',
    rpn_head=dict(type='SampledRPNHead'),
    roi_head=dict(
        type='ReIDRoIHead',
        bbox_roi_extractor=dict(type='SparseRoIExtractor'),
        bbox_head=dict(num_classes=1, reg_class_agnostic=True),
        reid_head=dict(
            type='ReIDHead',
            in_channels=2048,
            feat_channels=256,
            # 5,532 identities of CUHK-SYSU; the data sets' configs state theirs.
            loss_oim=dict(
                type='OIMLoss', num_identities=5532, queue_size=5000, momentum=0.5, temperature=1 / 30, loss_weight=1.0
            ),
        ),
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
