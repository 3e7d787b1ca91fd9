"""The composed objective in the log, and the teachers' hashes in the checkpoint."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmps_kd.datasets.base_person_search import inner_dataset
from mmps_kd.errors import UserError
from mmps_kd.models.distillers import DetectionFile

from ..unwrap import unwrapped_distiller


@HOOKS.register_module()
class DistillationHook(Hook):
    """Print the composed objective at the start; keep the teachers' hashes in the checkpoint, compare on resume.

    Works on a :class:`PersonSearchDistiller`; does nothing for a plain student.
    """

    def before_train(self, runner: Runner) -> None:
        """Print the objective; compare a file of detections with the training set."""
        distiller = unwrapped_distiller(runner)
        if distiller is not None:
            if isinstance(distiller.teacher, DetectionFile):
                dataset = inner_dataset(runner.train_dataloader.dataset)
                distiller.teacher.check({dataset.get_data_info(i)['img_name'] for i in range(len(dataset))})
            runner.logger.info(f'objective: {distiller.objective()}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the hashes of the teachers."""
        distiller = unwrapped_distiller(runner)
        if distiller is not None:
            checkpoint['meta']['teachers'] = distiller.teachers()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the teachers with those of the checkpoint.

        Raises:
            UserError: If a run is resumed with another teacher or look-up table.
        """
        distiller = unwrapped_distiller(runner)
        before = checkpoint.get('meta', {}).get('teachers')
        if distiller is None or before is None or not runner.cfg.get('resume'):
            return
        for role, teacher in distiller.teachers().items():
            if before.get(role) != teacher:
                raise UserError(
                    f'the run to resume had {role} {before.get(role)}, the config has {teacher}: name the same file, '
                    'or start a new run with load_from'
                )
