"""A query-guided student that is supervised by teachers."""

from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor

from ..distillers.terms import TeacherOutputs
from .person_search_distiller import PersonSearchDistiller
from .qeeps import QEEPS, PairOutputs


@MODELS.register_module()
class QEEPSDistiller(PersonSearchDistiller, QEEPS):
    """:class:`QEEPS` as the student (Munjal, Amin, Galasso, BMVC 2019, improve it too).

    The detector teacher sees the gallery images, whose features, anchors and RoIs are compared as those of
    :class:`PersonSearchDistiller`; the student's features depend on the query, the teacher's do not. The table holds
    for all people whom OIM sees, those of the query images too.

    Args:
        **kwargs: As for :class:`PersonSearchDistiller` and :class:`QEEPS`.
    """

    def forward_teacher(
        self, batch_inputs: dict[str, Tensor], student: PairOutputs, batch_data_samples: dict[str, SampleList]
    ) -> TeacherOutputs | None:
        """Run the teacher on the gallery images of the pairs."""
        return super().forward_teacher(batch_inputs['gallery'], student, batch_data_samples['gallery'])
