"""Write a teacher's ID look-up table, the targets of LUT distillation: a row for each identity, or for each box."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.data import Subset

from mmps_kd.apis.init_model import init_model, load_config, test_pipeline
from mmps_kd.apis.lut import (
    Crops,
    build_train_set,
    embed_boxes,
    embed_by_model,
    hash_inputs,
    images_with_people,
    mean_rows,
    rows_from_features,
    rows_from_memory,
)
from mmps_kd.datasets import BasePersonSearchDataset, boxes_sha256
from mmps_kd.datasets.dataset_wrappers import check_data_sets
from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut
from mmps_kd.models.distillers.reid_network import PRESETS, ReIDNetwork
from mmps_kd.models.utils.checkpoint_io import file_sha256, read_checkpoint


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="the teacher's config; for features and model: any config with the training set")
    parser.add_argument('checkpoint', nargs='?', help="the teacher's checkpoint; none for features and model")
    parser.add_argument('--out', type=Path, required=True, help='table to write (.safetensors)')
    parser.add_argument(
        '--source',
        choices=['memory', 'boxes', 'features', 'model'],
        default='memory',
        help="a row is: the teacher's own OIM row (default); its embedding of true boxes in the training set; the mean "
        'of the vectors in --features; the vector of the re-identification network --model of true boxes. boxes and '
        'model can be interrupted and go on',
    )
    parser.add_argument(
        '--level',
        choices=['identity', 'box'],
        default='identity',
        help='a row for each identity, the mean of its boxes (default); or, from boxes and model, for each annotated '
        'box, unlabelled people included',
    )
    parser.add_argument('--features', help='npz with features (M, D) and pids (M,), for --source features')
    network = parser.add_argument_group('--source model')
    network.add_argument('--model', help='re-identification network: .onnx, or .xml of OpenVINO')
    network.add_argument('--preset', choices=PRESETS, default='osnet', help='how it takes crops (default: %(default)s)')
    network.add_argument('--input-size', nargs=2, type=int, metavar=('H', 'W'), help="instead of the preset's")
    network.add_argument('--color', choices=['rgb', 'bgr'], help="order of the channels, instead of the preset's")
    network.add_argument('--mean', nargs=3, type=float, help="of pixels 0..255, instead of the preset's")
    network.add_argument('--std', nargs=3, type=float, help="of pixels 0..255, instead of the preset's")
    network.add_argument(
        '--mirror',
        action='store_true',
        help='with --level box: a second vector of the mirrored crop, for flipped images',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    args = parser.parse_args()
    needs = dict(memory='checkpoint', boxes='checkpoint', features='features', model='model')[args.source]
    for name in ('checkpoint', 'features', 'model'):
        if (getattr(args, name) is not None) != (name == needs):
            parser.error(f'--source {args.source} goes with {needs}{"" if name == needs else f", not with {name}"}')
    if args.level == 'box' and args.source not in ('boxes', 'model'):
        parser.error(f'--level box goes with --source boxes or model, not with {args.source}')
    if args.mirror and (args.level, args.source) != ('box', 'model'):
        parser.error('--mirror goes with --source model --level box')
    return args


def from_memory(cfg: Config, args: argparse.Namespace) -> tuple[Tensor, dict]:
    """Rows from the checkpoint's own table; annotations are read only for a checkpoint that names no identities."""
    checkpoint, metainfo = read_checkpoint(args.checkpoint), None
    if checkpoint['meta'].get('dataset_meta') is None:
        metainfo = build_train_set(cfg).metainfo
        print(f'{args.checkpoint} does not name its identities: those of the training set of {args.config} are taken')
    return rows_from_memory(checkpoint, args.checkpoint, metainfo)


def from_boxes(
    cfg: Config, args: argparse.Namespace, model: nn.Module, dataset: BasePersonSearchDataset, images: list[int]
) -> np.ndarray:
    """(M, D) vectors of true boxes by a person-search model."""
    labelled = args.level == 'identity'
    inputs = hash_inputs(dataset, cfg.model, test_pipeline(cfg), labelled, file_sha256(args.checkpoint))
    embed = partial(embed_by_model, model, labelled=labelled)
    workers = cfg.train_dataloader.get('num_workers', 0)
    return embed_boxes(embed, Subset(dataset, images), partial_file(args.out), inputs, workers)


def read_network(args: argparse.Namespace) -> ReIDNetwork:
    """The network, with what differs from its preset."""
    given = dict(size=args.input_size, color=args.color, mean=args.mean, std=args.std)
    return ReIDNetwork(args.model, args.preset, **{key: value for key, value in given.items() if value is not None})


def from_network(
    cfg: Config, args: argparse.Namespace, network: ReIDNetwork, dataset: BasePersonSearchDataset, images: list[int]
) -> np.ndarray:
    """(M, D) or, with mirrored crops, (M, 2, D) vectors of true boxes by a re-identification network."""
    crops = Crops(dataset, images, network, args.level == 'identity', args.mirror)
    inputs = hash_inputs(dataset, network.format, args.level, args.mirror, file_sha256(args.model))

    def embed(views: np.ndarray) -> np.ndarray:
        return network(views.reshape(-1, *views.shape[2:])).reshape(*views.shape[:2], -1)

    workers = cfg.train_dataloader.get('num_workers', 0)
    vectors = embed_boxes(embed, crops, partial_file(args.out), inputs, workers, collate=lambda batch: batch[0])
    return vectors if args.mirror else vectors[:, 0]


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
    mirrored, dataset = None, None
    if args.source == 'memory':
        rows, metainfo = from_memory(cfg, args)
    elif args.source == 'features':
        metainfo = build_train_set(cfg).metainfo
        rows = rows_from_features(args.features, metainfo['identities'])
    else:
        # The teacher first: reading the annotations takes longer than finding out that it cannot be used.
        by_network = args.source == 'model'
        embedder = read_network(args) if by_network else init_model(cfg, args.checkpoint)
        dataset = build_train_set(cfg)
        metainfo, by_box = dataset.metainfo, args.level == 'box'
        images = images_with_people(dataset, labelled=not by_box)
        vectors = (from_network if by_network else from_boxes)(cfg, args, embedder, dataset, images)
        if by_box:
            rows, *mirrored = (
                F.normalize(torch.from_numpy(vectors).float(), dim=-1)
                .reshape(len(vectors), -1, vectors.shape[-1])
                .unbind(1)
            )
            mirrored = mirrored[0] if mirrored else None
        else:
            rows = mean_rows(vectors, dataset, images)
    teacher = args.checkpoint or args.model
    table = LookUpTable(
        rows=rows,
        dataset=metainfo['dataset_name'],
        pids_sha256=boxes_sha256(dataset)[1] if args.level == 'box' else identities_sha256(metainfo['identities']),
        source=args.source,
        teacher_config=Path(args.features or args.model or args.config).name,
        teacher_sha256='' if teacher is None else file_sha256(teacher),
        level=args.level,
        mirrored=mirrored,
    )
    save_lut(args.out, table)
    partial_file(args.out).unlink(missing_ok=True)
    rows_of = 'identities' if args.level == 'identity' else 'boxes'
    print(f'{args.out}: {len(rows)} {rows_of} of {table.dataset}, {table.dim} dimensions, from {args.source}')


if __name__ == '__main__':
    run_tool(main)
