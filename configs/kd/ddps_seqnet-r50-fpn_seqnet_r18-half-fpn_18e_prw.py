# Features, logits and similarities of a SeqNet on ResNet-50 teach one on ResNet-18 of half width.
_base_ = ['../seqnet/seqnet_r18-fpn_18e_prw.py', '../_base_/distillation/ddps.py']

model = dict(
    type='PersonSearchDistiller',
    # Half the channels, for which there are no ImageNet weights: batch norm is trained.
    backbone=dict(
        base_channels=32,
        stem_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(requires_grad=True),
        init_cfg=None,
    ),
    neck=dict(in_channels=[32, 64, 128, 256]),
    teacher=dict(
        config='configs/seqnet/seqnet_r50-fpn_18e_prw.py',
        checkpoint='work_dirs/seqnet_r50-fpn_18e_prw/epoch_18.pth',
    ),
    distillation={{_base_.ddps_distillation}},
)
