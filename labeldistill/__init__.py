"""Label distillation: learn soft labels for a handful of real images.

The public names below are imported on first use, so that `import labeldistill` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

__all__ = [
    "__version__", "Auto", "Compute", "Dataset", "DatasetDistillation", "DistilledDataset", "Distiller", "Evaluation",
    "Event", "Expert", "InputError", "Interrupted", "LabelSolve", "LeNet", "Method", "Ridge", "Schedule", "SecondOrder",
    "Student", "Task", "TrajectoryMatching", "Unrolled", "datasets", "distill", "evaluate", "from_hub", "load",
    "load_distilled", "setting", "sets", "show", "train_full", "true_labels", "verify",
]

_NAMES = {  # by module
    "api": "datasets distill evaluate show train_full true_labels",
    "artifact": "DistilledDataset load_distilled",
    "config": "Auto Compute DatasetDistillation Expert LabelSolve Method Ridge Schedule SecondOrder Student Task "
    "TrajectoryMatching Unrolled setting",
    "data.catalog": "load",
    "data.datasets": "Dataset",
    "methods.distiller": "Distiller",
    "methods.loop": "Event Interrupted",
    "networks.zoo": "LeNet",
    "sharing": "from_hub",
    "shipped": "sets verify",
    "training.evaluation": "Evaluation",
    "utils": "InputError",
}
PUBLIC = dict(sorted((name, module) for module, names in _NAMES.items() for name in names.split()))

if TYPE_CHECKING:
    from labeldistill.api import datasets, distill, evaluate, show, train_full, true_labels
    from labeldistill.artifact import DistilledDataset, load_distilled
    from labeldistill.config import Auto, Compute, DatasetDistillation, Expert, LabelSolve, Method, Ridge, Schedule
    from labeldistill.config import SecondOrder, Student, Task, TrajectoryMatching, Unrolled, setting
    from labeldistill.data.catalog import load
    from labeldistill.data.datasets import Dataset
    from labeldistill.methods.distiller import Distiller
    from labeldistill.methods.loop import Event, Interrupted
    from labeldistill.networks.zoo import LeNet
    from labeldistill.sharing import from_hub
    from labeldistill.shipped import sets, verify
    from labeldistill.training.evaluation import Evaluation
    from labeldistill.utils import InputError


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("labeldistill")
    if name not in PUBLIC:
        raise AttributeError(f"module 'labeldistill' has no attribute '{name}'")
    return getattr(import_module(f"labeldistill.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
