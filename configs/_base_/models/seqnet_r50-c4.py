# SeqNet (Li and Miao, AAAI 2021) as published: a box head first, norm-aware re-identification on its boxes second, each
# with a conv5 of its own.
_base_ = ['person-search_r50-torchvision-c4.py', '../seqnet.py']

seq_roi_head = _base_.seq_roi_head
seq_roi_head.reid_head = _base_.norm_aware
seq_roi_head.second_shared_head = dict(with_input=True, **_base_.conv5)
seq_roi_head.second_bbox_head.update(_base_.pooled, **_base_.norm_regression)

model = dict(
    roi_head=seq_roi_head,
    train_cfg=dict(rcnn=dict(second=_base_.second_training)),
    test_cfg=dict(rcnn=dict(second=_base_.second_test)),
)
