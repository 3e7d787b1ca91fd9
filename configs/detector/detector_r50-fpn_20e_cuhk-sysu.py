# Detector teacher for students on a feature pyramid.
_base_ = [
    '../_base_/models/person-detector_r50-fpn.py',
    '../_base_/datasets/cuhk-sysu.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

val_evaluator = dict(type='PersonDetectionMetric')
test_evaluator = val_evaluator
