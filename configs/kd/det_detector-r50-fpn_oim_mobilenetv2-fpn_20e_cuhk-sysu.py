# Approach 1 for MobileNetV2: a detector with the same pyramid supervises the student's levels, RPN and box head.
_base_ = ['../oim/oim_mobilenetv2-fpn_20e_cuhk-sysu.py', '../_base_/distillation/detector-fpn.py']

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(
        config='configs/detector/detector_r50-fpn_20e_cuhk-sysu.py',
        checkpoint='work_dirs/detector_r50-fpn_20e_cuhk-sysu/epoch_20.pth',
    ),
    distillation={{_base_.pyramid_distillation}},
)
