# A small Detect+OIM that learns from scratch on two CPU cores in minutes: half-width ResNet-18 at stride 8, tall
# RoIs of 8x4 cells, no pretrained weights. For the synthetic `mini` data set, not for real data.
_base_ = [
    '../_base_/models/person-search_r18-c4.py',
    '../_base_/datasets/cuhk-sysu.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        base_channels=32,
        stem_channels=32,
        strides=(1, 2, 1),
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=None,
    ),
    rpn_head=dict(
        in_channels=128,
        feat_channels=128,
        anchor_generator=dict(scales=[4, 6, 9, 13], ratios=[2.5], strides=[8]),
    ),
    roi_head=dict(
        shared_head=None,
        bbox_roi_extractor=dict(
            out_channels=128, featmap_strides=[8], roi_layer=dict(output_size=(8, 4), sampling_ratio=2)
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=128, roi_feat_size=(8, 4), with_avg_pool=False, fc_out_channels=128
        ),
        reid_head=dict(
            in_channels=128,
            num_convs=1,
            with_bn=True,
            with_avg_pool=False,
            roi_feat_size=(8, 4),
            feat_channels=128,
            loss_oim=dict(num_identities=200, queue_size=200, temperature=0.1),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=200),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=100), rcnn=dict(max_per_img=50)),
)

data_root = 'data/synthetic/cuhk-sysu-mini/'
scale = (400, 300)
train_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='PackPersonSearchInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10, val_interval=5)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='MultiStepLR', by_epoch=True, milestones=[8], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
