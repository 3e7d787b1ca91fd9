# SeqNet on a feature pyramid with a small backbone.
_base_ = 'seqnet_r50-fpn.py'

model = dict(
    backbone=dict(
        depth=18,
        # By address, so that torchvision need not be installed.
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet18-f37072fd.pth'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
