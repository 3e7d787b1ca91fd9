# Features in and around boxes of a SeqNet on ResNet-50 teach one on ResNet-18.
_base_ = ['../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillation/fgd.py']

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(
        config='configs/seqnet/seqnet_r50-fpn_20e_cuhk-sysu.py',
        checkpoint='work_dirs/seqnet_r50-fpn_20e_cuhk-sysu/epoch_20.pth',
    ),
    distillation={{_base_.fgd_distillation}},
)
