# Detector teacher: no identities, detection alone.
_base_ = [
    '../_base_/models/person-detector_r50-caffe-c4.py',
    '../_base_/datasets/prw.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

val_evaluator = dict(type='PersonDetectionMetric')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=18)
