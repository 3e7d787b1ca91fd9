# The demo's small student: a quarter of ResNet-18's width, half the training of its teacher.
_base_ = 'oim_r18-narrow_mini.py'

model = dict(
    backbone=dict(base_channels=16, stem_channels=16),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64),
        reid_head=dict(in_channels=64),
    ),
)

train_cfg = dict(max_epochs=5, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='MultiStepLR', by_epoch=True, milestones=[4], gamma=0.1),
]
