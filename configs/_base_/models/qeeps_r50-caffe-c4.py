# QEEPS (Munjal et al., CVPR 2019): query-guided Detect+OIM. Each of its three parts can be taken out:
# backbone.qsse=None, qrpn=None, qsim_net=None.
_base_ = 'person-search_r50-caffe-c4.py'

model = dict(
    type='QEEPS',
    data_preprocessor=dict(
        _delete_=True, type='MultiBranchDataPreprocessor', data_preprocessor={{_base_.model.data_preprocessor}}
    ),
    # Stages count from 0: the first one is frozen and stays as it is.
    backbone=dict(type='SiameseResNet', qsse=dict(ratio=16, at='block', stages=(1, 2))),
    qrpn=dict(type='QRPN', ratio=16),
    qsim_net=dict(type='QSimNet'),
)
