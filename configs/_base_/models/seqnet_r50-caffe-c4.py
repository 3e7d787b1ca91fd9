# SeqNet (Li and Miao, AAAI 2021): a box head first, norm-aware re-identification on its boxes second, each with a
# conv5 of its own.
_base_ = ['person-search_r50-caffe-c4.py', '../seqnet.py']

seq_roi_head = _base_.seq_roi_head
seq_roi_head.second_bbox_head.update(type='BBoxHead', with_avg_pool=True, roi_feat_size=7, in_channels=2048)

model = dict(
    roi_head=seq_roi_head,
    train_cfg=dict(rcnn=dict(second=_base_.second_training)),
    test_cfg=dict(rcnn=dict(second=_base_.second_test)),
)
