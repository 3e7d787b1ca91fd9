"""Write a teacher's ID look-up table, the targets of LUT distillation."""

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from torch import Tensor

from mmps_kd.apis.init_model import init_model, load_config, test_pipeline
from mmps_kd.apis.lut import (
    build_train_set,
    hash_inputs,
    rows_from_features,
    rows_from_memory,
    sum_box_embeddings,
    unit_rows,
)
from mmps_kd.datasets.dataset_wrappers import check_data_sets
from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut
from mmps_kd.models.utils.checkpoint_io import file_sha256, read_checkpoint


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="the teacher's config; for features: any config with the training set")
    parser.add_argument('checkpoint', nargs='?', help="the teacher's checkpoint; none for features")
    parser.add_argument('--out', type=Path, required=True, help='table to write (.safetensors)')
    parser.add_argument(
        '--source',
        choices=['memory', 'boxes', 'features'],
        default='memory',
        help="a row is: the teacher's own OIM row (default); the mean of its embeddings of the identity's true boxes "
        'in the training set (can be interrupted and goes on); the mean of the vectors in --features',
    )
    parser.add_argument('--features', help='npz with features (M, D) and pids (M,), for --source features')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    args = parser.parse_args()
    elsewhere = args.source == 'features'
    if (args.features is not None) != elsewhere or (args.checkpoint is None) != elsewhere:
        parser.error('give a checkpoint with --source memory or boxes, and --features alone with --source features')
    return args


def from_memory(cfg: Config, args: argparse.Namespace) -> tuple[Tensor, dict]:
    """Rows from the checkpoint's own table; annotations are read only for a checkpoint that names no identities."""
    checkpoint, metainfo = read_checkpoint(args.checkpoint), None
    if checkpoint['meta'].get('dataset_meta') is None:
        metainfo = build_train_set(cfg).metainfo
        print(f'{args.checkpoint} does not name its identities: those of the training set of {args.config} are taken')
    return rows_from_memory(checkpoint, args.checkpoint, metainfo)


def from_boxes(cfg: Config, args: argparse.Namespace) -> tuple[Tensor, dict]:
    """Rows from one pass over the training set, gone on from where an earlier one was interrupted."""
    model = init_model(cfg, args.checkpoint)
    dataset = build_train_set(cfg)
    inputs = hash_inputs(dataset, cfg.model, test_pipeline(cfg), file_sha256(args.checkpoint))
    sums = sum_box_embeddings(
        model, dataset, partial_file(args.out), inputs, cfg.train_dataloader.get('num_workers', 0)
    )
    return unit_rows(sums, dataset.metainfo['identities'], 'its embeddings are not finite'), dataset.metainfo


def from_features(cfg: Config, args: argparse.Namespace) -> tuple[Tensor, dict]:
    """Rows from vectors made elsewhere."""
    metainfo = build_train_set(cfg).metainfo
    return rows_from_features(args.features, metainfo['identities']), metainfo


def partial_file(out: Path) -> Path:
    """Where an interrupted pass over the training set keeps what it has."""
    return out.with_name(f'{out.name}.partial.npz')


def main() -> None:
    """Write the table and say what it is."""
    args = parse_args()
    if args.checkpoint is not None and not Path(args.checkpoint).is_file():
        raise UserError(f'there is no checkpoint {args.checkpoint}')
    cfg = load_config(args.config, args.cfg_options)
    check_data_sets(cfg)
    init_default_scope(cfg.default_scope)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows, metainfo = dict(memory=from_memory, boxes=from_boxes, features=from_features)[args.source](cfg, args)
    table = LookUpTable(
        rows=rows,
        dataset=metainfo['dataset_name'],
        pids_sha256=identities_sha256(metainfo['identities']),
        source=args.source,
        teacher_config=Path(args.features or args.config).name,
        teacher_sha256='' if args.checkpoint is None else file_sha256(args.checkpoint),
    )
    save_lut(args.out, table)
    partial_file(args.out).unlink(missing_ok=True)
    print(f'{args.out}: {len(rows)} identities of {table.dataset}, {table.dim} dimensions, from {args.source}')


if __name__ == '__main__':
    run_tool(main)
