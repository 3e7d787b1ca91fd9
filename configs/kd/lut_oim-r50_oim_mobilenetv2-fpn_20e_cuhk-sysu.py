# Approach 2 for MobileNetV2. A table belongs to a data set: this one is what the ResNet students learn from too.
_base_ = '../oim/oim_mobilenetv2-fpn_20e_cuhk-sysu.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/oim_r50_20e_cuhk-sysu/lut.safetensors'),
)
