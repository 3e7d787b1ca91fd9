# Approach 2 on a query-guided student: the table of a QEEPS trained before.
_base_ = '../qeeps/qeeps_r50_20e_cuhk-sysu.py'

model = dict(
    type='QEEPSDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/qeeps_r50_20e_cuhk-sysu/lut.safetensors'),
)
