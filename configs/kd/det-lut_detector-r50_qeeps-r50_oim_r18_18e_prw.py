# Both approaches, with the table of a QEEPS teacher.
_base_ = 'det_detector-r50_oim_r18_18e_prw.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/qeeps_r50_18e_prw/lut.safetensors'))
