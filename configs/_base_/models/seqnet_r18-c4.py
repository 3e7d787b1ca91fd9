# SeqNet with ResNet-18.
_base_ = 'seqnet_r50-c4.py'

# ImageNet weights by address, so that torchvision need not be installed.
pretrained = dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet18-f37072fd.pth')

model = dict(
    backbone=dict(depth=18, init_cfg=pretrained),
    rpn_head=dict(in_channels=256, feat_channels=256),
    roi_head=dict(
        shared_head=dict(depth=18, init_cfg=pretrained),
        second_shared_head=dict(depth=18, init_cfg=pretrained),
        bbox_roi_extractor=dict(out_channels=256),
        bbox_head=dict(in_channels=512),
        second_bbox_head=dict(in_channels=512),
        reid_head=dict(in_channels=256 + 512, before_channels=256),
    ),
)
