_base_ = [
    '../_base_/models/seqnet_r50-c4.py',
    '../_base_/datasets/prw_seqnet.py',
    '../_base_/schedules/schedule_seqnet_20e.py',
    '../_base_/default_runtime.py',
]

# Confidence-weighted similarity, as published.
val_evaluator = dict(weight_by_score=True)
test_evaluator = val_evaluator

# 483 labelled identities in the annotations, though papers say 482.
model = dict(roi_head=dict(reid_head=dict(loss_oim=dict(num_identities=483, queue_size=500))))

train_cfg = dict(max_epochs=18)
