# A small Detect+OIM for a few hundred photographs with small people: ImageNet's MobileNetV2 up to stride 16, a narrow
# feature pyramid from stride 4 on, RoIs of 16x8 cells. Ten minutes on one CPU thread.
_base_ = [
    '../_base_/models/person-search_r50-fpn.py',
    '../_base_/datasets/prw.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='ShortMobileNetV2',
        out_indices=(1, 2, 4),
        # Stem and first two stages are ImageNet's, and so are the statistics of all batch norms.
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='mobilenet_v2_imagenet_to_layer5.pth'),
    ),
    neck=dict(in_channels=[24, 32, 96], out_channels=64, num_outs=3),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[6, 8.5, 12], ratios=[2.5], strides=[4, 8, 16]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=64, featmap_strides=[4, 8, 16], roi_layer=dict(output_size=(16, 8), sampling_ratio=2)
        ),
        bbox_head=dict(in_channels=64, roi_feat_size=(16, 8), fc_out_channels=128),
        reid_head=dict(
            in_channels=64,
            num_convs=2,
            with_bn=True,
            roi_feat_size=(16, 8),
            loss_oim=dict(num_identities=109, queue_size=500, temperature=0.1),
        ),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=200), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(score_thr=0.5, nms=dict(iou_threshold=0.4))),
)

scale = (640, 480)
train_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='RandomResize', scale=[(560, 420), (720, 540)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='PackPersonSearchInputs'),
]
data_root = 'data/real/'
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline, cross_camera=True))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10, val_interval=10)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
