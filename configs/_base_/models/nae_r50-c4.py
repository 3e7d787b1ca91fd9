# NAE (Chen et al., CVPR 2020): the norm-aware embedding of the proposals also detects.
_base_ = 'person-search_r50-torchvision-c4.py'

model = dict(
    roi_head=dict(
        type='NAERoIHead',
        shared_head=dict(with_input=True),
        bbox_head=dict(
            with_cls=False,
            reg_predictor_cfg=_base_.norm_regression.reg_predictor_cfg,
            init_cfg=dict(_delete_=True, **_base_.norm_regression.init_cfg),
        ),
        reid_head=_base_.norm_aware,
    ),
    # As in its code: boxes of an IoU between 0.1 and 0.5 are not trained on.
    train_cfg=dict(rcnn=dict(assigner=dict(neg_iou_thr=0.1))),
)
