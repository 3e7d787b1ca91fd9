# Approach 1: a specialised detector supervises backbone, RPN and box head.
_base_ = ['../oim/oim_r18_18e_prw.py', '../_base_/distillation/detector.py']

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(
        config='configs/detector/detector_r50_18e_prw.py',
        checkpoint='work_dirs/detector_r50_18e_prw/epoch_18.pth',
    ),
    distillation={{_base_.detector_distillation}},
)
