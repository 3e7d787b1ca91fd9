"""Build step beside setup.cfg: configs and tools travel inside the package, in ``mmps_kd/.mim``.

MMEngine looks there for configs named ``mmps_kd::...``, as in every OpenMMLab package.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
EXTRA = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """``build_py`` that adds ``.mim``: links in the source tree for an editable install, copies for a wheel."""

    def run(self) -> None:
        """Build the modules, then ``.mim``."""
        super().run()
        package = ROOT if self.editable_mode else ROOT / self.build_lib
        mim = package / 'mmps_kd' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in EXTRA:
            if (ROOT / name).exists():
                self._add(ROOT / name, mim / name)

    def _add(self, source: Path, target: Path) -> None:
        if self.editable_mode:
            target.symlink_to(Path('..', '..', source.name))
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(source, target)


setup(cmdclass={'build_py': BuildWithMim})
