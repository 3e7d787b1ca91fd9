# Approach 2: the table of the demo's teacher, fixed, is the small student's OIM table.
_base_ = 'oim_r18-quarter_mini.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/demo/lut.safetensors'),
)
