# Approach 1: the demo's teacher supervises the small student's detector.
_base_ = ['oim_r18-quarter_mini.py', '../_base_/distillation/detector.py']

model = dict(
    type='PersonSearchDistiller',
    teacher=dict(config='configs/demo/oim_r18-narrow_mini.py', checkpoint='work_dirs/demo/train/epoch_10.pth'),
    distillation={{_base_.detector_distillation}},
)
