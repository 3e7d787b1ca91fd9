"""Ablation of QEEPS on synthetic data: same seeds, same number of steps for every row.

Needs the ``mini`` data of ``make demo``, or another size that tools/dataset_tools/make_synthetic.py wrote.
Rows that are done are not run again.
"""

import argparse
from pathlib import Path

from ablation import ROOT, Row, longer, run_rows, table_lines

from mmps_kd.errors import run_tool

PLAIN = ROOT / 'configs/demo/oim_r18-quarter_mini.py'
QEEPS = ROOT / 'configs/demo/qeeps_r18-quarter_mini.py'
COLUMNS = dict(
    mAP='search mAP', top1='top-1', det_ap='detection AP', mAP_cosine='mAP, cosine', mAP_query_free='mAP, query-free'
)
QUERY_FREE = ['test_cfg.type=TestLoop', 'test_evaluator.type=SearchMetric']
COSINE = ['model.qsim_net=None']

OFF = dict(QSSE=dict(backbone=dict(qsse=None)), QRPN=dict(qrpn=None), QSimNet=dict(qsim_net=None))


def rows(data_root: Path, schedule: int) -> dict[str, Row]:
    """The plain model, QEEPS, and QEEPS without each of its parts and without all of them."""
    root = f'{data_root.resolve()}/'
    common = {f'{loader}_dataloader.dataset.data_root': root for loader in ('val', 'test')} | longer(PLAIN, schedule)
    plain = {'train_dataloader.dataset.data_root': root, **common}
    pairs = {'train_dataloader.dataset.dataset.data_root': root, **common}
    tests = dict(mAP_query_free=QUERY_FREE)
    compared = dict(mAP_cosine=COSINE, **tests)
    return {
        'Detect+OIM': Row(PLAIN, {}, plain),
        'QEEPS': Row(QEEPS, {}, pairs, compared),
        'without QSSE': Row(QEEPS, OFF['QSSE'], pairs, compared),
        'without QRPN': Row(QEEPS, OFF['QRPN'], pairs, compared),
        'without QSimNet': Row(QEEPS, OFF['QSimNet'], pairs, tests),
        'pairs alone': Row(QEEPS, OFF['QSSE'] | OFF['QRPN'] | OFF['QSimNet'], pairs, tests),
    }


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data-root', type=Path, default=ROOT / 'data/synthetic/cuhk-sysu-mini', help='the data set')
    parser.add_argument('--rows', nargs='+', help='names of rows beside Detect+OIM; all by default')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--schedule', type=int, default=1, help='times as many epochs; with a work dir of its own')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/qeeps_ablation')
    return parser.parse_args()


def main() -> None:
    """Run what is missing, print the table."""
    args = parse_args()
    chosen = {
        name: row
        for name, row in rows(args.data_root, args.schedule).items()
        if args.rows is None or name in ('Detect+OIM', *args.rows)
    }
    run_rows(args.work_dir, chosen, args.seeds, args.jobs)
    print('\n'.join(table_lines(args.work_dir, list(chosen), args.seeds, COLUMNS)))


if __name__ == '__main__':
    run_tool(main)
