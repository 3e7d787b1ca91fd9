# SeqNet of the demo's small student's size and budget: detection first, norm-aware re-identification second.
_base_ = ['oim_r18-quarter_mini.py', '../_base_/seqnet.py']

seq_roi_head = _base_.seq_roi_head
seq_roi_head.second_bbox_head.update(
    type='Shared2FCBBoxHead', in_channels=64, fc_out_channels=128, roi_feat_size=(8, 4)
)
second_training = _base_.second_training
second_training.sampler.num = 64

model = dict(
    roi_head=seq_roi_head,
    train_cfg=dict(rcnn=dict(second=second_training)),
    test_cfg=dict(rcnn=dict(second=_base_.second_test)),
)

val_evaluator = dict(weight_by_score=True)
test_evaluator = val_evaluator
