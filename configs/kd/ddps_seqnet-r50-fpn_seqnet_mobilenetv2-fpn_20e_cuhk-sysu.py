# Features, logits and similarities of a SeqNet on ResNet-50 teach one on MobileNetV2.
_base_ = ['../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillation/ddps.py']

model = dict(
    type='PersonSearchDistiller',
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(1, 2, 4, 7),
        norm_cfg=dict(type='BN', requires_grad=False),
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
    ),
    neck=dict(in_channels=[24, 32, 96, 1280]),
    teacher=dict(
        config='configs/seqnet/seqnet_r50-fpn_20e_cuhk-sysu.py',
        checkpoint='work_dirs/seqnet_r50-fpn_20e_cuhk-sysu/epoch_20.pth',
    ),
    distillation={{_base_.ddps_distillation}},
)
