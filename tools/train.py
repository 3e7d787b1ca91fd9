"""Train a person-search model from a config."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS

from mmps_kd.apis import load_config
from mmps_kd.apis.init_model import STUDENTS
from mmps_kd.compat import read_checkpoints_as_data
from mmps_kd.engine.checkpoint import require_writable
from mmps_kd.engine.launch import prepare_process_group, set_up_run
from mmps_kd.engine.resume import set_resume
from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.distillers import load_lut
from mmps_kd.models.distillers.reid_network import PRESETS
from mmps_kd.models.utils.checkpoint_io import file_sha256

ROOT = Path(__file__).resolve().parents[1]
DISTILLERS = {student: distiller for distiller, student in STUDENTS.items()}


def parse_args() -> argparse.Namespace:
    """Arguments of mmdet's train.py."""
    parser = argparse.ArgumentParser(description='Train a person-search model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default: work_dirs/<config name>')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision; bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with GPUs x batch size / base_batch_size'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; without a value, from the latest one in the work dir',
    )
    teachers = parser.add_argument_group('teachers', 'each apart or together; docs/distillation.md')
    teachers.add_argument(
        '--distill', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='a trained detector, which teaches detection'
    )
    vectors = teachers.add_mutually_exclusive_group()
    vectors.add_argument('--lut', help='a table of ID vectors, of identities or of boxes (tools/extract_lut.py)')
    vectors.add_argument(
        '--reid-teacher',
        metavar='NET',
        help='a re-identification network, .onnx or .xml: its table of boxes is made once and kept in the work dir',
    )
    teachers.add_argument(
        '--reid-preset', choices=PRESETS, help='how it takes crops; default: omz for .xml, else osnet'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override settings: key.sub=value ...')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes --local-rank, torchrun sets LOCAL_RANK.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def build_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's overrides."""
    cfg = load_config(args.config, args.cfg_options)
    set_up_run(cfg, args.work_dir, args.launcher)
    if args.distill or args.lut or args.reid_teacher:
        add_teachers(cfg, args)
    if args.amp:
        if torch.cuda.is_available():
            cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
        else:
            cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
            cfg.optim_wrapper.pop('dtype', None)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(f'{args.config} has no auto_scale_lr.base_batch_size: set it, or leave out --auto-scale-lr')
        cfg.auto_scale_lr.enable = True
    set_resume(cfg, args.resume)
    return cfg


def add_teachers(cfg: Config, args: argparse.Namespace) -> None:
    """Turn a student's config into the one that distils: what configs/kd/ spells out; --cfg-options go before."""
    if cfg.model.type not in DISTILLERS:
        raise UserError(
            f'{args.config} is a {cfg.model.type}: teachers are for {", ".join(DISTILLERS)}; where the config has its '
            'own, leave --distill, --lut and --reid-teacher out'
        )
    cfg.model.type, cfg.model.distillation = DISTILLERS[cfg.model.type], []
    if args.distill is not None:
        recipes = Config.fromfile(ROOT / 'configs/_base_/distillation/detector-fpn.py')
        pyramid = 'neck' in cfg.model
        cfg.merge_from_dict({'model.teacher.config': args.distill[0], 'model.teacher.checkpoint': args.distill[1]})
        cfg.model.distillation += recipes.pyramid_distillation if pyramid else recipes.detector_distillation
    table = args.lut if args.reid_teacher is None else make_table(cfg, args)
    if table is None:
        return
    if load_lut(table).level == 'identity':
        cfg.merge_from_dict({'model.lut.type': 'LUTDistiller', 'model.lut.lut_file': table})
    else:
        cfg.merge_from_dict({'model.box_lut.lut_file': table})
        loss = dict(type='IDFeatureLoss', loss_weight=10.0)
        cfg.model.distillation.append(dict(at='roi.embedding', table='box', loss=loss))


def make_table(cfg: Config, args: argparse.Namespace) -> str:
    """The file with the network's vectors of all boxes of the training set, unless it is there."""
    network = Path(args.reid_teacher)
    if not network.is_file():
        raise UserError(f'there is no re-identification network {network}')
    preset = args.reid_preset or ('omz' if network.suffix == '.xml' else 'osnet')
    work_dir = Path(cfg.work_dir)
    table = work_dir / f'{network.stem}_{preset}_{file_sha256(network)[:8]}.safetensors'
    if not table.exists():
        given = ['--source', 'model', '--level', 'box', '--mirror']
        given += ['--model', str(network), '--preset', preset, '--out']
        if cfg.launcher != 'none':
            command = ' '.join(['python tools/extract_lut.py', args.config, *given, 'TABLE.safetensors'])
            raise UserError(f'one process makes the table: run {command}, and give it to the others as --lut')
        work_dir.mkdir(parents=True, exist_ok=True)
        cfg.dump(work_dir / 'student.py')
        tool = [sys.executable, str(ROOT / 'tools/extract_lut.py'), str(work_dir / 'student.py')]
        if subprocess.run([*tool, *given, str(table)]).returncode:
            raise UserError(f'the table of {network} could not be made: see above')
    return str(table)


def main() -> None:
    """Train."""
    args = parse_args()
    read_checkpoints_as_data()
    cfg = build_config(args)
    require_writable(cfg.work_dir)
    prepare_process_group(cfg)
    RUNNERS.build(cfg).train()


if __name__ == '__main__':
    run_tool(main)
