# Features, logits and similarities of a SeqNet on ResNet-50 teach one on ResNet-18.
_base_ = ['../seqnet/seqnet_r18-fpn_18e_prw.py', '../_base_/distillation/ddps.py']

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(
        config='configs/seqnet/seqnet_r50-fpn_18e_prw.py',
        checkpoint='work_dirs/seqnet_r50-fpn_18e_prw/epoch_18.pth',
    ),
    distillation={{_base_.ddps_distillation}},
)
