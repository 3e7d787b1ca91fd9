# Approach 2: the teacher's ID vectors are the student's OIM table, and stay. The table is written by
# tools/extract_lut.py from a trained teacher, here configs/oim/oim_r50_20e_cuhk-sysu.py.
_base_ = '../oim/oim_r50_20e_cuhk-sysu.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/oim_r50_20e_cuhk-sysu/lut.safetensors'),
)
