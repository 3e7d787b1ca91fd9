# Approach 2: the teacher's ID vectors are the student's OIM table, and stay. The table is written by
# tools/extract_lut.py from a trained teacher, here configs/oim/oim_r50_18e_prw.py.
_base_ = '../oim/oim_r18_18e_prw.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/oim_r50_18e_prw/lut.safetensors'),
)
