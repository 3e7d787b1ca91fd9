# QEEPS over the demo's larger model. A training step sees two images where the plain model sees one.
_base_ = 'oim_r18-narrow_mini.py'

model = dict(
    type='QEEPS',
    data_preprocessor=dict(
        _delete_=True, type='MultiBranchDataPreprocessor', data_preprocessor={{_base_.model.data_preprocessor}}
    ),
    backbone=dict(type='SiameseResNet', qsse=dict(ratio=4)),
    qrpn=dict(type='QRPN', ratio=4, feat_channels=128),
    qsim_net=dict(type='QSimNet'),
)

train_dataloader = dict(
    dataset=dict(_delete_=True, type='QueryGalleryPairDataset', dataset={{_base_.train_dataloader.dataset}})
)

# A pair of query and gallery image costs up to a forward pass (docs/qeeps.md): validate once, at the end.
train_cfg = dict(val_interval=10)
val_cfg = dict(type='QueryGuidedValLoop')
test_cfg = dict(type='QueryGuidedTestLoop')
val_evaluator = dict(type='QueryGuidedSearchMetric')
test_evaluator = val_evaluator
