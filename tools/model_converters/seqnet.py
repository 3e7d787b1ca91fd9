"""Turn a published checkpoint of SeqNet, NAE or OIMNet++ into one of this package.

The checkpoint is read as plain data: code that it may hold is not run. The OIM table and queue go along, so that
tools/extract_lut.py --source memory gives a LUT.
"""

import argparse
from pathlib import Path

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from mmps_kd.compat import load_from_file
from mmps_kd.errors import UserError, run_tool
from mmps_kd.fileio import atomic_write

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
EVERYWHERE = {
    'backbone.': 'backbone.',
    'rpn.head.conv.0.0.': 'rpn_head.rpn_conv.',  # torchvision 0.13 and later
    'rpn.head.conv.': 'rpn_head.rpn_conv.',
    'rpn.head.cls_logits.': 'rpn_head.rpn_cls.',
    'rpn.head.bbox_pred.': 'rpn_head.rpn_reg.',
    'roi_heads.embedding_head.projectors.feat_res4.': 'roi_head.reid_head.before.',
    'roi_heads.embedding_head.projectors.feat_res5.0.': 'roi_head.reid_head.fc.',
    'roi_heads.embedding_head.projectors.feat_res5.1.': 'roi_head.reid_head.bn.',
    'roi_heads.embedding_head.rescaler.': 'roi_head.reid_head.rescaler.',
    'roi_heads.reid_loss.lut': 'roi_head.reid_head.loss_oim.lut',
    'roi_heads.reid_loss.cq': 'roi_head.reid_head.loss_oim.queue',
    'roi_heads.reid_regressor.lut': 'roi_head.reid_head.loss_oim.lut',
    'roi_heads.reid_regressor.cq': 'roi_head.reid_head.loss_oim.queue',
}
"""Where tensors go, by the beginning of their key, the first that fits; '' for what the published code does not use."""
PLACES = {
    'SeqNet': {
        'roi_heads.box_head.': 'roi_head.shared_head.',
        'roi_heads.faster_rcnn_predictor.cls_score.': 'roi_head.bbox_head.fc_cls.',
        'roi_heads.faster_rcnn_predictor.bbox_pred.': 'roi_head.bbox_head.fc_reg.',
        'roi_heads.reid_head.': 'roi_head.second_shared_head.',
        'roi_heads.box_predictor.bbox_pred.': 'roi_head.second_bbox_head.fc_reg.',
    },
    'NAE': {
        'roi_heads.box_head.': 'roi_head.shared_head.',
        'roi_heads.box_predictor.bbox_pred.': 'roi_head.bbox_head.fc_reg.',
        'roi_heads.box_predictor.cls_score.': '',
    },
    'OIMNet++': {
        'roi_heads.reid_head.': 'roi_head.shared_head.',
        'roi_heads.box_predictor.bbox_cls.': 'roi_head.bbox_head.fc_cls.',
        'roi_heads.box_predictor.bbox_pred.': 'roi_head.bbox_head.fc_reg.',
        'roi_heads.box_head.': '',
        'roi_heads.faster_rcnn_predictor.': '',
    },
}
FOLDERS = {'SeqNet': 'seqnet', 'NAE': 'nae', 'OIMNet++': 'oimnetpp'}
OTHERS = {
    'roi_heads.box_head_2nd.': 'COAT: its cascade of transformer heads is not here',
    'gfn.': 'GFN: its gallery filter network is not here',
    'bbox_head.transformer.': 'PSTR: its transformer decoder is not here',
    'bbox_head.': 'AlignPS: its anchor-free head is not here',
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='published checkpoint')
    parser.add_argument('out', type=Path, help='checkpoint to write (.pth)')
    parser.add_argument(
        '--prw', metavar='ROOT', help='folder of PRW, whose annotations say which row of the table is whose'
    )
    return parser.parse_args()


def main() -> None:
    """Convert, and print what went where."""
    args = parse_args()
    published = read_state_dict(args.checkpoint)
    name = recognise(published, args.checkpoint)
    state, left_out = convert(published, name, args.checkpoint)
    lines = [f'left out: {key} {tuple(published[key].shape)}' for key in left_out]
    oim = 'roi_head.reid_head.loss_oim'
    rows = len(state[f'{oim}.lut'])
    prw = rows in (482, 483)
    meta = dict(converted_from=f'{name}, {Path(args.checkpoint).name}')
    if prw:
        state[f'{oim}.lut'], notes, meta['dataset_meta'] = map_prw(state[f'{oim}.lut'], args.prw)
        lines += notes
    folder = FOLDERS[name]
    (config,) = (CONFIGS / folder).glob(f'{folder}_r50_*e_{"prw" if prw else "cuhk-sysu"}.py')
    fit(state, config, name, args.checkpoint)
    with atomic_write(args.out) as file:
        torch.save(dict(state_dict=state, meta=meta), file)
    print('\n'.join([f'{len(published) - len(left_out)} tensors converted', *lines]))
    print(f'{args.out}: {name}, for configs/{config.relative_to(CONFIGS)}')
    if not prw and rows != 5532:
        print(f'its OIM table has {rows} rows: set model.roi_head.reid_head.loss_oim.num_identities={rows}')


def read_state_dict(path: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without the keys' prefix of data-parallel training."""
    content = load_from_file(path)
    for key in ('model', 'state_dict'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f'{path} holds no state dict of a model')
    return {key.removeprefix('module.'): value for key, value in content.items()}


def recognise(published: dict[str, Tensor], path: str) -> str:
    """The model that a state dict is of, by its keys.

    Raises:
        UserError: If it is none of those that can be converted.
    """
    for prefix, reason in OTHERS.items():
        if any(key.startswith(prefix) for key in published):
            raise UserError(f'{path} is no SeqNet, NAE or OIMNet++; it looks like {reason}')
    if 'roi_heads.box_predictor.bbox_cls.weight' in published:
        return 'OIMNet++'
    if 'roi_heads.embedding_head.rescaler.weight' in published:
        return 'SeqNet' if 'roi_heads.faster_rcnn_predictor.cls_score.weight' in published else 'NAE'
    raise UserError(f'{path} is no checkpoint of SeqNet, NAE or OIMNet++: roi_heads.embedding_head is missing')


def convert(published: dict[str, Tensor], name: str, path: str) -> tuple[dict[str, Tensor], list[str]]:
    """Rename and reorder.

    Returns:
        The state dict, and the published keys that are not used.

    Raises:
        UserError: If a tensor has no place in the model.
    """
    places = {**EVERYWHERE, **PLACES[name]}
    state, left_out, unknown = {}, [], []
    for key, value in published.items():
        prefix = next((prefix for prefix in places if key.startswith(prefix)), None)
        if prefix is None:
            unknown.append(key)
        elif not places[prefix]:
            left_out.append(key)
        else:
            place = places[prefix] + key[len(prefix) :]
            if '.fc_cls.' in place:  # torchvision: background first
                value = value.flip(0)
            elif '.fc_reg.' in place and value.ndim:  # deltas of background, then of person
                value = value[4:]
            state[place] = value.float() if value.is_floating_point() else value
    if unknown:
        more = f' and {len(unknown) - 3} more' if len(unknown) > 3 else ''
        raise UserError(f'{path} looks like {name}, but there is no place for {", ".join(unknown[:3])}{more}')
    if name == 'OIMNet++':
        # ProtoNorm is a batch norm without scale and shift when tested, and the linear layer has no bias.
        width = len(state['roi_head.reid_head.fc.weight'])
        state |= {f'roi_head.reid_head.{part}': torch.zeros(width) for part in ('fc.bias', 'bn.bias')}
        state['roi_head.reid_head.bn.weight'] = torch.ones(width)
    state['roi_head.reid_head.loss_oim.queue_head'] = torch.tensor(0)
    return state, left_out


def map_prw(table: Tensor, root: str | None) -> tuple[Tensor, list[str], dict]:
    """Bring PRW's table into the order of the data set's identities.

    The published code takes PRW's person ids as they are: row r is of person r + 1, in 482 rows. The 483 identities of
    the training frames are not the numbers 1 to 482: a row stays unwritten, and who has no row went to the queue.

    Args:
        table: (482, D).
        root: Folder of PRW; None: the table cannot be mapped, and stays empty.

    Returns:
        (483, D) table, lines to print, and the checkpoint's ``dataset_meta``.
    """
    if root is None:
        empty = table.new_zeros(483, table.shape[1])
        return empty, ['the OIM table was left out: give --prw, the folder of PRW, to map its rows to identities'], {}
    dataset = DATASETS.build(dict(type='PRWDataset', data_root=root, split='train', pipeline=[], lazy_init=False))
    identities = dataset.metainfo['identities']
    mapped = table.new_zeros(len(identities), table.shape[1])
    has_row = [row for row, pid in enumerate(identities) if pid <= len(table)]
    mapped[has_row] = table[[identities[row] - 1 for row in has_row]]
    dead = sorted({*range(1, len(table) + 1)}.difference(identities))
    leaking = [pid for pid in identities if pid > len(table)]
    notes = [
        f'warning: row {_join([pid - 1 for pid in dead])} of the published table is of no identity, and identity '
        f'{_join(leaking)} has none, its vectors went to the queue: its row is empty here'
    ]
    return mapped, notes, dict(dataset.metainfo)


def _join(pids: list[int]) -> str:
    return ', '.join(map(str, pids)) or '-'


def fit(state: dict[str, Tensor], config: Path, name: str, path: str) -> None:
    """Load the state dict into the model of a config, strictly.

    Raises:
        UserError: If a tensor is missing or has another shape.
    """
    model = MODELS.build(Config.fromfile(config).model)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key, shape in expected.items():
        if not key.endswith('num_batches_tracked') and key not in state:
            raise UserError(f'{path} looks like {name}, but has nothing for {key}')
        if key in state and tuple(state[key].shape) != shape and '.loss_oim.' not in key:
            raise UserError(f'{path} looks like {name}, but {key} would be {tuple(state[key].shape)}, not {shape}')


if __name__ == '__main__':
    init_default_scope('mmdet')
    run_tool(main)
