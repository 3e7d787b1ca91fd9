_base_ = [
    '../_base_/models/seqnet_r50-c4.py',
    '../_base_/datasets/cuhk-sysu_seqnet.py',
    '../_base_/schedules/schedule_seqnet_20e.py',
    '../_base_/default_runtime.py',
]

# Confidence-weighted similarity, as published.
val_evaluator = dict(weight_by_score=True)
test_evaluator = val_evaluator
