"""What the tools leave in a work dir, read again by those that call them."""

import json
from pathlib import Path

from mmps_kd.errors import UserError

from .checkpoint.save import POINTER


def last_checkpoint(work_dir: Path) -> Path:
    """The newest checkpoint of a training.

    Raises:
        UserError: If there is none.
    """
    pointer = work_dir / POINTER
    if not pointer.is_file():
        raise UserError(f'there is no trained model in {work_dir}: train it first')
    return Path(pointer.read_text())


def last_validation(work_dir: Path) -> dict[str, float]:
    """Figures that the newest start of a training logged last, by the names that they are logged under."""
    lines = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1].read_text().splitlines()
    return [line for line in map(json.loads, lines) if 'search/mAP' in line][-1]


def last_test(work_dir: Path) -> dict[str, float]:
    """Figures of the newest ``tools/test.py --work-dir``, by the names that they are logged under."""
    return json.loads(sorted(work_dir.glob('*/*.json'))[-1].read_text())
