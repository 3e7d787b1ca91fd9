# Approach 1: a specialised detector supervises backbone, RPN and box head.
_base_ = ['../oim/oim_r50_20e_cuhk-sysu.py', '../_base_/distillation/detector.py']

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(
        config='configs/detector/detector_r101_20e_cuhk-sysu.py',
        checkpoint='work_dirs/detector_r101_20e_cuhk-sysu/epoch_20.pth',
    ),
    distillation={{_base_.detector_distillation}},
)
