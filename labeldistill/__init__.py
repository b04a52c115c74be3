"""Label distillation: learn soft labels for a handful of real images.

The public names below are imported on first use, so that `import labeldistill` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

PUBLIC = {
    "DistilledDataset": "artefact",
    "Dataset": "data",
    "Evaluation": "evaluation",
    "InputError": "data",
    "LeNet": "networks",
    "baseline": "runs",
    "datasets": "runs",
    "distill": "runs",
    "evaluate": "runs",
    "load": "catalogue",
    "load_distilled": "artefact",
    "show": "runs",
    "train_full": "runs",
}

__all__ = ["__version__", *PUBLIC]

if TYPE_CHECKING:
    from labeldistill.artefact import DistilledDataset, load_distilled
    from labeldistill.catalogue import load
    from labeldistill.data import Dataset, InputError
    from labeldistill.evaluation import Evaluation
    from labeldistill.networks import LeNet
    from labeldistill.runs import baseline, datasets, distill, evaluate, show, train_full


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("labeldistill")
    if name not in PUBLIC:
        raise AttributeError(f"module 'labeldistill' has no attribute '{name}'")
    return getattr(import_module(f"labeldistill.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
