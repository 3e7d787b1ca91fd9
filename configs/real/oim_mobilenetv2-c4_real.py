# A small Detect+OIM for a few hundred photographs with small people: ImageNet's MobileNetV2 up to stride 16. The RPN
# reads stride 16, RoIs are 16x8 cells of stride 8. Box head and re-id head have MobileNetV2's next layers each to
# themselves: in one set of layers the teacher's vectors cost detection.
# About four minutes on one CPU thread.
_base_ = [
    '../_base_/models/person-search_r50-caffe-c4.py',
    '../_base_/datasets/prw.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

pretrained = dict(type='Pretrained', checkpoint='mobilenet_v2_imagenet_to_layer5.pth')
last_layers = dict(type='MobileNetV2Layers', first=4, last=5, norm_eval=True, init_cfg=pretrained)
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    # Stem and first three layers are ImageNet's, and so are the statistics of all batch norms.
    backbone=dict(
        _delete_=True,
        type='ShortMobileNetV2',
        out_indices=(2, 4),
        frozen_stages=3,
        norm_eval=True,
        init_cfg=pretrained,
    ),
    rpn_head=dict(
        start_level=1,
        in_channels=96,
        feat_channels=128,
        anchor_generator=dict(scales=[1.5, 2.25, 3.4, 5.0, 7.6, 11.4], ratios=[2.5], strides=[16]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=32, featmap_strides=[8], roi_layer=dict(output_size=(16, 8), sampling_ratio=1)
        ),
        shared_head=dict(_delete_=True, **last_layers),
        reid_layers=last_layers,
        bbox_head=dict(in_channels=96, roi_feat_size=(8, 4)),
        reid_head=dict(
            in_channels=96,
            with_avg_pool=False,
            with_bn=True,
            roi_feat_size=(8, 4),
            loss_oim=dict(num_identities=109, queue_size=500, temperature=0.1),
        ),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=200), rcnn=dict(sampler=dict(num=32, pos_fraction=0.5))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)),
)

# People of the training set are up to ten times as tall as those of the test set: training images are made smaller.
train_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='RandomResize', scale=[(320, 240), (640, 480)], keep_ratio=True),
    # No PhotoMetricDistortion: it swaps colour channels, and colours are what people are told apart by.
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=(960, 720), keep_ratio=True),
    dict(type='PackPersonSearchInputs'),
]
data_root = 'data/real/'
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline, cross_camera=True))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=6, val_interval=6)
optim_wrapper = dict(
    type='BFloat16OptimWrapper', optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.01)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=6, convert_to_iter_based=True),
]
custom_hooks = [*_base_.custom_hooks, dict(type='ChannelsLastHook')]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
