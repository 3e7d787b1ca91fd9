import subprocess
import sys

PROGRAM = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'mmengine', 'mmcv', 'mmdet'}:
            raise ModuleNotFoundError(name)

def find_spec(name, package=None, original=__import__('importlib.util').util.find_spec):
    return None if name == 'mmdet' else original(name, package)

sys.meta_path.insert(0, Absent())
sys.modules['importlib.util'].find_spec = find_spec
import mmps_kd.evaluation.functional as functional
assert not {'torch', 'mmengine', 'mmcv', 'mmdet'} & set(sys.modules)
print(functional.evaluate_search.__name__)
"""


def test_functional_core_needs_neither_torch_nor_openmmlab():
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, 'evaluate_search\n'), done.stderr
