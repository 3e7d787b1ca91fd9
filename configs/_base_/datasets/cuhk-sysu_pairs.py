# Training on pairs: each image is a gallery for which a query is drawn. Testing is on single images.
_base_ = 'cuhk-sysu.py'

train_dataloader = dict(
    dataset=dict(_delete_=True, type='QueryGalleryPairDataset', dataset={{_base_.train_dataloader.dataset}})
)
