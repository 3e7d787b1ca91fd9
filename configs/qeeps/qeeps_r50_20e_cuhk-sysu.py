_base_ = [
    '../_base_/models/qeeps_r50-caffe-c4.py',
    '../_base_/datasets/cuhk-sysu_pairs.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]

# A pair of query and gallery image costs up to a forward pass (docs/qeeps.md): validate once, at the end.
train_cfg = dict(val_interval=20)
val_cfg = dict(type='QueryGuidedValLoop', max_queries=100)
test_cfg = dict(type='QueryGuidedTestLoop', max_queries=100)
val_evaluator = dict(type='QueryGuidedSearchMetric')
test_evaluator = val_evaluator
