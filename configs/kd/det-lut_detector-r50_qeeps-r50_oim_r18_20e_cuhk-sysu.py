# Both approaches, with the table of a QEEPS teacher.
_base_ = 'det_detector-r50_oim_r18_20e_cuhk-sysu.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/qeeps_r50_20e_cuhk-sysu/lut.safetensors'))
