# CWD (Shu et al., ICCV 2021) on the levels that the RoI head reads; temperature and weight of the published code.
cwd_distillation = [
    dict(at=f'neck.{level}', loss=dict(type='CWDLoss', temperature=1.0, loss_weight=10.0)) for level in range(4)
]
