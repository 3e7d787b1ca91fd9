# Approach 2, the paper's: the table of a QEEPS teacher (configs/qeeps/qeeps_r50_20e_cuhk-sysu.py), written by
# tools/extract_lut.py, is the student's OIM table, and stays.
_base_ = '../oim/oim_r50_20e_cuhk-sysu.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/qeeps_r50_20e_cuhk-sysu/lut.safetensors'),
)
