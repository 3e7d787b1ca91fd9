"""Scope ``mmps_kd`` for MMEngine: one child, empty, of each of mmdet's registries.

The package registers its parts in mmdet's registries. MMEngine marks what a config inherits through ``mmps_kd::...``
with this scope, looks here, and goes on to the parent.
"""

import mmdet.registry
from mmengine.registry import Registry

for _parent in list(vars(mmdet.registry).values()):
    if isinstance(_parent, Registry) and _parent.scope == 'mmdet':
        Registry(_parent.name, parent=_parent, scope='mmps_kd', locations=['mmps_kd'])
