"""A hook for the tests' configs: the process kills itself, as a crash or a signal from outside would."""

import json
import os

from mmdet.registry import HOOKS
from mmengine.hooks import Hook

SEND = {
    'self': lambda number: os.kill(os.getpid(), number),
    'group': lambda number: os.killpg(os.getpgrp(), number),  # Ctrl-C: data loading gets it too
    'parent': lambda number: os.kill(os.getppid(), number),  # torchrun, which hands it on to all ranks
}


@HOOKS.register_module()
class KillAt(Hook):
    """Send a signal at a moment that KILL_AT names: ``{"point": "after_train_iter", "count": 3, "signal": 9}``.

    ``count`` is how many times rank 0 passed the hook point before; ``whom`` (default self) is one of :data:`SEND`.
    """

    priority = 'HIGHEST'

    def __init__(self):
        self.plan, self.passed = json.loads(os.environ.get('KILL_AT', 'null')), 0
        if self.plan is not None and os.environ.get('RANK', '0') == '0':
            setattr(self, self.plan['point'], self._pass)

    def _pass(self, runner, **kwargs):
        if self.passed == self.plan['count']:
            SEND[self.plan.get('whom', 'self')](self.plan['signal'])
        self.passed += 1
