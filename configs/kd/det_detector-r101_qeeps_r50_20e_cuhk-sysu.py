# Approach 1 on a query-guided student: the detector sees the gallery images.
_base_ = ['../qeeps/qeeps_r50_20e_cuhk-sysu.py', '../_base_/distillation/detector.py']

model = dict(
    type='QEEPSDistiller',
    teacher=dict(
        config='configs/detector/detector_r101_20e_cuhk-sysu.py',
        checkpoint='work_dirs/detector_r101_20e_cuhk-sysu/epoch_20.pth',
    ),
    distillation={{_base_.detector_distillation}},
)
