# Approach 1 on SeqNet: a specialised detector supervises backbone, RPN and the first box head. Train it at SeqNet's
# input size, 900x1500.
_base_ = ['../seqnet/seqnet_r18_20e_cuhk-sysu.py', '../_base_/distillation/detector.py']

# The first head's box loss weighs 10: the teacher's part stays half of it.
distillation = _base_.detector_distillation
distillation[4].loss.loss_weight = 5.0

model = dict(
    type='PersonSearchDistiller',
    rpn_head=dict(anchor_generator=dict(type='AnchorGenerator')),  # those of the teacher
    teacher=dict(
        config='configs/detector/detector_r50_20e_cuhk-sysu.py',
        checkpoint='work_dirs/detector_r50_20e_cuhk-sysu_900x1500/epoch_20.pth',
    ),
    distillation=distillation,
)
