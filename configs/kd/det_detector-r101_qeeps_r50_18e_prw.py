# Approach 1 on a query-guided student: the detector sees the gallery images.
_base_ = ['../qeeps/qeeps_r50_18e_prw.py', '../_base_/distillation/detector.py']

model = dict(
    type='QEEPSDistiller',
    teacher=dict(
        config='configs/detector/detector_r101_18e_prw.py',
        checkpoint='work_dirs/detector_r101_18e_prw/epoch_18.pth',
    ),
    distillation={{_base_.detector_distillation}},
)
