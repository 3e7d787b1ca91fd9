# SeqNet of the demo's small student's backbone and budget, with the published heads: a stage of ResNet-18 in each, its
# maximum over an RoI, a batch norm in the second regression, two branches of the norm-aware embedding.
_base_ = ['oim_r18-quarter_mini.py', '../_base_/seqnet.py']

conv5 = dict(type='MaxPoolResLayer', depth=18, stage=1, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False)
pooled = dict(type='BBoxHead', in_channels=128, roi_feat_size=1, with_avg_pool=True)
seq_roi_head = _base_.seq_roi_head
seq_roi_head.update(
    shared_head=dict(_delete_=True, **conv5),
    second_shared_head=dict(with_input=True, **conv5),
    embed_final_boxes=False,
)
seq_roi_head.bbox_head.update(_delete_=True, num_classes=1, reg_class_agnostic=True, **pooled)
seq_roi_head.second_bbox_head.update(reg_predictor_cfg=dict(type='BNLinear'), **pooled)
seq_roi_head.reid_head.update(
    in_channels=64 + 128, before_channels=64, num_convs=0, with_avg_pool=True, roi_feat_size=1
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
