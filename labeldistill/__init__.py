"""Label distillation: learn soft labels for a handful of real images.

The public names below are imported on first use, so that `import labeldistill` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

PUBLIC = {
    "Auto": "config",
    "Compute": "config",
    "Dataset": "data.datasets",
    "DatasetDistillation": "config",
    "DistilledDataset": "artifact",
    "Distiller": "methods.distiller",
    "Evaluation": "training.evaluation",
    "Event": "methods.loop",
    "Expert": "config",
    "InputError": "utils",
    "LabelSolve": "config",
    "LeNet": "networks.zoo",
    "Method": "config",
    "Ridge": "config",
    "Schedule": "config",
    "SecondOrder": "config",
    "Student": "config",
    "Task": "config",
    "TrajectoryMatching": "config",
    "Unrolled": "config",
    "datasets": "api",
    "distill": "api",
    "evaluate": "api",
    "from_hub": "sharing",
    "load": "data.catalog",
    "load_distilled": "artifact",
    "setting": "config",
    "sets": "shipped",
    "show": "api",
    "train_full": "api",
    "true_labels": "api",
    "verify": "shipped",
}

__all__ = ["__version__", *PUBLIC]

if TYPE_CHECKING:  # `as`: exported, as type checkers have it
    from labeldistill.api import datasets as datasets
    from labeldistill.api import distill as distill
    from labeldistill.api import evaluate as evaluate
    from labeldistill.api import show as show
    from labeldistill.api import train_full as train_full
    from labeldistill.api import true_labels as true_labels
    from labeldistill.artifact import DistilledDataset as DistilledDataset
    from labeldistill.artifact import load_distilled as load_distilled
    from labeldistill.config import Auto as Auto
    from labeldistill.config import Compute as Compute
    from labeldistill.config import DatasetDistillation as DatasetDistillation
    from labeldistill.config import Expert as Expert
    from labeldistill.config import LabelSolve as LabelSolve
    from labeldistill.config import Method as Method
    from labeldistill.config import Ridge as Ridge
    from labeldistill.config import Schedule as Schedule
    from labeldistill.config import SecondOrder as SecondOrder
    from labeldistill.config import Student as Student
    from labeldistill.config import Task as Task
    from labeldistill.config import TrajectoryMatching as TrajectoryMatching
    from labeldistill.config import Unrolled as Unrolled
    from labeldistill.config import setting as setting
    from labeldistill.data.catalog import load as load
    from labeldistill.data.datasets import Dataset as Dataset
    from labeldistill.methods.distiller import Distiller as Distiller
    from labeldistill.methods.loop import Event as Event
    from labeldistill.networks.zoo import LeNet as LeNet
    from labeldistill.sharing import from_hub as from_hub
    from labeldistill.shipped import sets as sets
    from labeldistill.shipped import verify as verify
    from labeldistill.training.evaluation import Evaluation as Evaluation
    from labeldistill.utils import InputError as InputError


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("labeldistill")
    if name not in PUBLIC:
        raise AttributeError(f"module 'labeldistill' has no attribute '{name}'")
    return getattr(import_module(f"labeldistill.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
