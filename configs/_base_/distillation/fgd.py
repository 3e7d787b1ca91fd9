# FGD (Yang et al., CVPR 2022) on the levels that the RoI head reads; weights of its Faster R-CNN, and of DDPS.
fgd_distillation = [
    dict(at=f'neck.{level}', mask='boxes', loss=dict(type='FGDLoss', channels=256)) for level in range(4)
]
