"""Ablation of the distillation parts on synthetic data: same seeds, same order of the data for every row.

The teacher is the model of ``make demo`` (run that first). Rows that are done are not run again.
"""

import argparse
from pathlib import Path

from ablation import ROOT, Row, call, longer, run_rows, table_lines

from mmps_kd.engine.checkpoint import last_checkpoint
from mmps_kd.errors import UserError, run_tool

DEMO = ROOT / 'work_dirs/demo'
TEACHER_CONFIG = ROOT / 'configs/demo/oim_r18-narrow_mini.py'
STUDENT_CONFIG = ROOT / 'configs/demo/oim_r18-quarter_mini.py'
COLUMNS = dict(
    mAP='search mAP', top1='top-1', det_ap='detection AP', det_recall='recall', mAP_true_boxes='mAP, true boxes'
)

HINT = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss', loss_weight=30.0))
NEAR_PEOPLE = dict(
    at='backbone.0',
    adapter='conv3x3_relu',
    mask='fine_grained',
    loss=dict(type='FeatureImitationLoss', mode='fine_grained', loss_weight=0.3),
)
# mu = 0.5: where soft targets come in, the hard classification losses count half.
LOGITS = [
    dict(at=at, hard_weight=0.5, loss=dict(type='LogitDistillationLoss', loss_weight=0.5))
    for at in ('rpn.cls', 'roi.cls')
]
BOXES = [dict(at=at, loss=dict(type='BoundedRegressionLoss', loss_weight=0.5)) for at in ('rpn.bbox', 'roi.bbox')]
ID_FEATURES = dict(at='roi.embedding', loss=dict(type='IDFeatureLoss', loss_weight=1.0))
# What later papers put in the hint's place, with their weights; the teacher's map has 128 channels.
PKD = dict(at='backbone.0', loss=dict(type='PKDLoss', loss_weight=6.0))
CWD = dict(at='backbone.0', loss=dict(type='CWDLoss', temperature=1.0, loss_weight=10.0))
FGD = dict(at='backbone.0', mask='boxes', loss=dict(type='FGDLoss', channels=128))
BOX_VECTORS = dict(at='roi.embedding', name='boxes', table='box', loss=dict(type='IDFeatureLoss'))
CORRELATION = dict(at='roi.embedding', name='correlation', table='teacher', loss=dict(type='CorrelationLoss'))


def weighed(share: float, *terms: dict) -> list[dict]:
    """The same losses, each with that share of the gradient."""
    return [{**term, 'loss': {**term['loss'], 'loss_weight': f'share:{share}'}} for term in terms]


def models(work_dir: Path) -> dict[str, dict]:
    """What each row changes in the student's ``model``."""
    teacher = dict(config=str(TEACHER_CONFIG), checkpoint=str(last_checkpoint(DEMO / 'train')))

    def detector(*terms: dict) -> dict:
        return dict(type='PersonSearchDistiller', teacher=teacher, distillation=list(terms))

    def table(source: str, **more: object) -> dict:
        lut = dict(type='LUTDistiller', lut_file=str(work_dir / f'{source}.safetensors'), **more)
        return dict(type='PersonSearchDistiller', lut=lut)

    full, shared = detector(HINT, *LOGITS, *BOXES), detector(*weighed(0.1, HINT, *LOGITS, *BOXES))
    of_boxes = dict(box_lut=dict(lut_file=str(work_dir / 'box_level.safetensors')))
    everything = detector(*weighed(0.1, HINT, *LOGITS, *BOXES, BOX_VECTORS, CORRELATION))
    return {
        'plain': {},
        'hint': detector(HINT),
        'fine-grained hint': detector(NEAR_PEOPLE),
        'logits': detector(*LOGITS),
        'bounded regression': detector(*BOXES),
        'detector KD': full,
        'ID-feature regression': {**table('memory', thaw_epoch=0), 'distillation': [ID_FEATURES]},
        'LUT from memory': table('memory'),
        'LUT from boxes': table('boxes'),
        'LUT + detector KD': {**full, **table('boxes')},
        'PKD': detector(PKD),
        'CWD': detector(CWD),
        'FGD': detector(FGD),
        'hint, share': detector(*weighed(0.1, HINT)),
        'FGD, share': detector(*weighed(0.1, FGD)),
        'detector KD, shares': shared,
        'LUT + detector KD, shares': {**shared, **table('boxes')},
        'box vectors, share': {**table('boxes'), **of_boxes, 'distillation': weighed(0.1, BOX_VECTORS)},
        'LUT + all, shares': {**everything, **table('boxes'), **of_boxes},
    }


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--student', type=Path, default=STUDENT_CONFIG, help='config of the plain student')
    parser.add_argument('--rows', nargs='+', help='names of rows beside plain; all by default')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--schedule', type=int, default=1, help='times as many epochs; with a work dir of its own')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/kd_ablation', help='one for each student')
    parser.add_argument('--out', type=Path, help='write the table (Markdown) to this file')
    return parser.parse_args()


def main() -> None:
    """Extract the tables, run what is missing, print the table."""
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    for source in ('memory', 'boxes'):
        extract_table(args.work_dir / f'{source}.safetensors', '--source', source)
    extract_table(args.work_dir / 'box_level.safetensors', '--source', 'boxes', '--level', 'box')
    changes = models(args.work_dir)
    unknown = set(args.rows or []) - set(changes)
    if unknown:
        raise UserError(f'no row {unknown.pop()}: choose from {", ".join(changes)}')
    tests = dict(mAP_true_boxes=['model.test_cfg.true_boxes=True'])
    rows = {
        name: Row(args.student.resolve(), model, longer(args.student, args.schedule), tests)
        for name, model in changes.items()
        if args.rows is None or name in ('plain', *args.rows)
    }
    run_rows(args.work_dir, rows, args.seeds, args.jobs)
    text = '\n'.join(table_lines(args.work_dir, list(rows), args.seeds, COLUMNS))
    print(text)
    if args.out is not None:
        args.out.write_text(text + '\n')


def extract_table(path: Path, *arguments: str) -> None:
    """Write the teacher's table unless it is there."""
    if not path.exists():
        teacher = (TEACHER_CONFIG, last_checkpoint(DEMO / 'train'))
        call(path.with_suffix('.log'), 'tools/extract_lut.py', *teacher, *arguments, '--out', path)


if __name__ == '__main__':
    run_tool(main)
