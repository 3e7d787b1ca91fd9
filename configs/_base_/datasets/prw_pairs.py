# Training on pairs, as on CUHK-SYSU.
_base_ = 'prw.py'

train_dataloader = dict(
    dataset=dict(_delete_=True, type='QueryGalleryPairDataset', dataset={{_base_.train_dataloader.dataset}})
)
