# Both approaches on a feature pyramid, from one teacher: a larger SeqNet, whose first head judges proposals.
_base_ = ['../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py', '../_base_/distillation/detector-fpn.py']

# The first head's box loss weighs 10: the teacher's part stays half of it.
distillation = _base_.pyramid_distillation
distillation[-1].loss.loss_weight = 5.0

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(
        config='configs/seqnet/seqnet_r50-fpn_20e_cuhk-sysu.py',
        checkpoint='work_dirs/seqnet_r50-fpn_20e_cuhk-sysu/epoch_20.pth',
    ),
    distillation=distillation,
    lut=dict(type='LUTDistiller', lut_file='work_dirs/seqnet_r50-fpn_20e_cuhk-sysu/lut.safetensors'),
)
