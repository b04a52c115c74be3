"""Everything that is refused in one line, as data.

A row names a verb and the options that differ from those of a run that would succeed (`USUAL` in `test_refusals.py`),
by the names they have on the command line with underscores for dashes. `None` leaves a usual option out. A text that
begins with "@" is one of the files that the tests prepare; "positional" is given on the command line as it is. "method"
is the subcommand of `distill`; without it the method is ridge.
Files of a row are never changed, and nothing may be written beside them.
"""

import math
from typing import Any, NamedTuple

import torch

from labeldistill.config import Expert, Ridge
from labeldistill.data.datasets import Dataset

BOTH, PYTHON, COMMAND = ("python", "command"), ("python",), ("command",)
HUGE = 10**20


class Refusal(NamedTuple):
    "One thing that is refused."

    id: str
    verb: str
    options: dict[str, Any]
    message: str  # a regular expression, searched for in the one line
    doors: tuple[str, ...] = BOTH  # through which it can be said
    late: bool = False  # networks are trained before it is refused


def rows(
    verb: str,
    table: dict[str, tuple[dict[str, Any], str]],  # options and message by what is wrong
    doors: tuple[str, ...] = BOTH,
    late: bool = False,
    **common: Any,  # options of all rows
) -> list[Refusal]:
    "Rows of one verb."
    return [
        Refusal(f"{verb}: {name}", verb, common | options, message, doors, late) for name, (options, message) in table.items()
    ]


def mine(**change: Any) -> Dataset:
    "Six images of three classes in memory, something of them changed."
    whole = {"images": torch.zeros(6, 1, 8, 8, dtype=torch.uint8), "labels": torch.tensor([0, 1, 2, 0, 1, 2])}
    return Dataset(**({"name": "mine", "classes": ("a", "b", "c")} | whole | change))


class Text(str):
    "A text that is not made a method."


def nameless(parameters: Any) -> None:
    "No optimizer."


KNOWN = "digits, letters, mnist, fashion_mnist, kmnist"
WHOLE, FEW, MOST = "expected a whole number$", "must be at least 1$", "must be at most 1000000000$"
DEVICES = r"expected auto, cpu"

# Data, by any option that names them

FILES = {
    "@wrong_keys.npz": r"holds \['x', 'y'\]; expected 'images' and 'labels', or 'train_x'",
    "@no_labels.npz": r"holds \['images'\]; expected 'images' and 'labels'",
    "@two_dimensions.npz": r"images has shape \(4, 4\); expected \(n, h, w\) or \(n, h, w, c\)",
    "@channels_first.npz": r"\(12, 3, 4, 4\)",
    "@no_images.npz": r"images holds no images",
    "@too_few_labels.npz": r"labels is int64 \(11,\); expected 12 integers, one per image",
    "@wide_pixels.npz": r"images is int64; expected uint8, 0 to 255",
    "@nan_pixels.npz": r"images is float64 with NaN; expected uint8",
    "@float_labels.npz": r"labels is float64",
    "@negative_label.npz": r"labels reaches from -1 to 1; expected classes 0 \.\.\. C-1",
    "@class_without_images.npz": r"classes without images: \['1', '3'\]; expected none",
    "@one_class.npz": r"there is one class only, .*; expected two or more",
    "@two_sizes.npz": r"train_x and test_x differ in image shape",
    "@oblong.npz": r"3 x 4; give --image-size to make them square",
    "@objects.npz": r"is not an \.npz file that can be read",
    "@cut.npz": r"is not an \.npz file that can be read",
    "@text.npz": r"is not an \.npz file that can be read \(File is not a zip file\)",
    "@notes.txt": r"is neither a folder nor an \.npz file; expected digits",
    "@few.npz": r"has 2 examples, 1 of them different: too few for training, validation and test",
    "@empty_class": r"c.*; expected one folder of images per class, none empty",
    "@no_picture": r"is not an image that can be read",
    "@folders_only": r"in '.*' there are folders only; expected one folder of images per class",
    "@differing_sizes": r"images differ in size .*: give --image-size to resize them",
    "@sixteen_bit": r"has more than 8 bits a pixel; expected 8-bit gray or colou?r",
}
ELSEWHERE = {"mnist": "MNIST", "cifar10": "cifar-10-batches-py", "svhn": "train_32x32", "kuzushiji49": "Kuzushiji-49"}
DATA = {
    **{f"target {name[1:]}": ({"target": name}, message) for name, message in FILES.items()},
    **{f"source {name[1:]}": ({"source": name}, message) for name, message in FILES.items() if name != "@oblong.npz"},
    "an unknown target": ({"target": "nonsense"}, f"--target: unknown data set or path 'nonsense'; expected {KNOWN}"),
    "an unknown source": ({"source": "nonsense"}, f"--source: unknown data set or path 'nonsense'; expected {KNOWN}"),
    "a target in capitals": ({"target": "Digits"}, f"--target: unknown data set or path 'Digits'; expected {KNOWN}"),
    "a target without a name": ({"target": ""}, "--target: a data set without a name; expected a known name or a path"),
    "a source without a name": ({"source": " "}, "--source: a data set without a name; expected a known name or a path"),
    "an npz that is not there": ({"target": "nowhere.npz"}, r"--target: unknown data set or path 'nowhere\.npz'"),
    "a source of another size": (
        {"source": "digits"},
        r"--source 'digits': images are \(1, 28, 28\), the target's \(1, 16, 16\)",
    ),
    "imagenet64, which is not downloaded": ({"target": "imagenet64"}, r"--target: 'imagenet64': expected .*--data-root"),
    **{
        f"{name} without a network": ({"target": name}, f"--target: '{name}' could not be .*downloaded .*{folder}.*--data-root")
        for name, folder in ELSEWHERE.items()
    },
}
MEMORY = {
    "floating-point images": (mine(images=torch.rand(6, 1, 8, 8)), "images are torch.float32"),
    "images without channels": (mine(images=torch.zeros(6, 8, 8, dtype=torch.uint8)), "expected uint8"),
    "images elsewhere": (
        mine(images=torch.zeros(6, 1, 8, 8, dtype=torch.uint8, device="meta")),
        "is on meta and cpu; expected cpu",
    ),
    "oblong images": (mine(images=torch.zeros(6, 1, 8, 9, dtype=torch.uint8)), "images are 8 x 9; give --image-size"),
    "too few labels": (mine(labels=torch.tensor([0, 1, 2, 0, 1])), r"labels are torch.int64 \(5,\)"),
    "floating-point labels": (mine(labels=torch.tensor([0.0, 1, 2, 0, 1, 2])), "labels are torch.float32"),
    "labels beyond the classes": (mine(classes=("a", "b")), r"labels from 0 to 2; expected 0 \.\.\. C-1"),
}
TENSOR = (torch.zeros(3), "is a Tensor; expected a known name, a path")

# What all verbs have that begin with data and a network

NETWORKS = {
    "an unknown network": ("nonsense", "--network 'nonsense': expected lenet, .* or package.module:factory"),
    "a module that is not there": ("no_such_module:factory", "--network 'no_such_module:factory' cannot be imported"),
    "a factory that is not there": ("user_networks:nothing", "--network 'user_networks:nothing' cannot be imported"),
    "a factory without a name": ("user_networks:", "--network 'user_networks:' cannot be imported"),
    "a module without a name": (":plain", "--network ':plain' cannot be imported"),
    "a relative module": (".user_networks:plain", "--network '.user_networks:plain' cannot be imported"),
    "a factory of other arguments": ("user_networks:not_callable_dimensions", "--network 'user_networks:not_call.*' fails on"),
    "a network of other classes": ("user_networks:wrong_output", r"maps two images to shape \(2, 4\); expected \(2, 3\)"),
    "no function": ("user_networks:__doc__", "--network 'user_networks:__doc__' fails on"),
    "another function": ("json:loads", "--network 'json:loads' fails on"),
    "a lambda of one argument": (
        "user_networks:not_callable_dimensions",
        r"missing 1 .*; expected a factory as in def network\(channels",
    ),
    "one module each time": ("user_networks:always_the_same", "same module twice; expected a new one, or the module itself"),
    "a module that cannot start afresh": (
        "user_networks:STUCK",
        r"its parameter '1.scale' is set by no reset_parameters\(\); expected a factory",
    ),
}
NETWORK = {name: ({"network": network}, message) for name, (network, message) in NETWORKS.items()} | {
    "another last layer": ({"last_layer": "1"}, r"--last-layer '1': linear layers with 3 outputs are \['3'\]"),
}
PIXELS = {
    "no pixels": ({"image_size": 0}, "--image-size 0: must be at least 1, at most 1024$"),
    "fewer than no pixels": ({"image_size": -1}, "--image-size -1: must be at least 1, at most 1024$"),
    "pixels beyond memory": ({"image_size": 100_000}, "--image-size 100000: must be at least 1, at most 1024$"),
    "two channels": ({"channels": 2}, r"--channels 2: expected 1 \(gray\) or 3 \(colou?r\)$"),
    "no channels": ({"channels": 0}, r"--channels 0: expected 1 \(gray\) or 3 \(colou?r\)$"),
    "pixels too few for lenet": ({"image_size": 15, "network": "lenet"}, "lenet.* images of 16 pixels or more, not 15"),
}
DEVICE = {
    "an unknown device": ({"device": "nonsense"}, f"--device 'nonsense': {DEVICES}"),
    "a device that is not there": ({"device": "cuda:99"}, f"--device 'cuda:99': {DEVICES}"),
}
SEED = {
    "a seed with a fraction": ({"seed": 1.5}, f"--seed 1.5: {WHOLE}"),
    "a seed of letters": ({"seed": "a"}, f"--seed 'a': {WHOLE}"),
    "a seed that is yes or no": ({"seed": True}, f"--seed True: {WHOLE}"),
}
BASE = {
    "no base examples": ({"base_examples": 0}, f"--base-examples 0: {FEW}"),
    "fewer than no base examples": ({"base_examples": -3}, f"--base-examples -3: {FEW}"),
    "base examples beyond counting": ({"base_examples": HUGE}, f"--base-examples {HUGE}: {MOST}"),
    "base examples beyond the training part": ({"base_examples": 85}, "--base-examples 85: must be 1 to 84, the size of"),
    "base examples that cannot be balanced": (
        {"base_examples": 7},
        "--base-examples 7: expected a multiple of the 3 classes, or --class-blind",
    ),
    "base examples beyond the smallest class": (
        {"target": "@imbalanced.npz", "base_examples": 40},
        r"--base-examples 40: the smallest class has \d+, a balanced set reaches \d+",
    ),
    "an unknown selection": (
        {"selection": "best"},
        "--selection 'best': expected random, optimised, k-center, herding, easy, hard, expert-balanced, searched$",
    ),
    "selected examples beyond the training part": (
        {"base_examples": 99, "selection": "herding"},
        "--base-examples 99: must be 1",
    ),
    "selected examples that cannot be balanced": (
        {"base_examples": 7, "selection": "k-center"},
        "--base-examples 7: expected a multiple of the 3 classes, or --class-blind",
    ),
}
STUDENTS_PYTHON = {
    "no students": ({"method": "unrolled", "students": []}, r"--students \[\]: expected networks by name, as in"),
    "students without a list": ({"method": "unrolled", "students": 3}, "--students 3: expected networks by name, as in"),
}
BASE_PYTHON = {
    "base examples that are yes or no": ({"base_examples": True}, f"--base-examples True: {WHOLE}"),
    "base examples with a fraction": ({"base_examples": 1.5}, f"--base-examples 1.5: {WHOLE}"),
    "a base seed of letters": ({"base_seed": "a"}, f"--base-seed 'a': {WHOLE}"),
}
BASE_LATE = {
    "a quantile that is too small": (
        {"base_examples": 30, "selection": "easy"},
        "--base-examples 30: must be 1 to 9, drawn from 10% of the training part",
    ),
}
PRECISION = {
    "an unknown precision": ({"precision": "fp16"}, "--precision 'fp16': expected auto, fp32, bf16$"),
    "a random network to compile": (
        {"compile": True, "network": "user_networks:dropping"},
        "--compile: network 'user_networks:dropping' draws random numbers; expected --no-compile$",
    ),
}
STUBBORN = {
    "a network that computes in float32 alone": (
        {"precision": "bf16", "network": "user_networks:stubborn"},
        "--precision bf16: network 'user_networks:stubborn' computes with float32 numbers of its own; expected fp32$",
    ),
}
BARE = {
    "ridge for nothing but a last layer": (
        {"network": "user_networks:bare"},
        "nothing in the network .*; ridge needs that, second-order does not$",
    ),
}
MODELS = {
    "no models": ({"models": 0}, f"--models 0: {FEW}"),
    "models beyond counting": ({"models": HUGE}, f"--models {HUGE}: {MOST}"),
}
HEAD = {
    "an unknown head": ({"head": "nonsense"}, "--head 'nonsense': expected linear, ridge$"),
    "an unknown loss": ({"loss": "nonsense"}, "--loss 'nonsense': expected cross-entropy, mse$"),
}
OPTIMIZER = {"an unknown optimizer": ({"optimizer": "nonsense"}, "--optimizer 'nonsense': expected adam, sgd, adamw$")}
OPTIMIZERS = {
    "a maker of no optimizer": ({"optimizer": nameless}, "--optimizer: made a NoneType; expected a torch Optimizer"),
    "an optimizer with a closure": ({"optimizer": torch.optim.LBFGS}, "--optimizer: made a LBFGS; expected .* without a closure"),
}

# distill

NO_OPTION = {  # options that another method has
    "expert": {"learn": "images", "init": "uniform", "window": 5, "iterations": 8, "outer_batch": 64, "validate_every": 2},
    "ridge": {"fixed_init": True, "step_size": 0.1, "window": 5, "inner_optimizer": "sgd", "ensemble": 2, "segment": 2},
    "second-order": {"inner_steps": 2, "lam": 1.0},
    "unrolled": {"learn": "both", "inner_epochs": 2, "monitor_window": 50},
    "dd": {"window": 5, "label_lr": 0.1},
    "matching": {"window": 5, "inner_lr": 0.1},
}
METHOD_OPTIONS = {
    f"{name} with {method}": ({"method": method, name: value}, f"(?i)no such option: --{name.replace('_', '-')}( |$)")
    for method, options in NO_OPTION.items()
    for name, value in options.items()
}
METHODS_NAMED = {
    "an unknown method": (
        {"method": "nonsense"},
        "^error: distill nonsense: expected auto, ridge, second-order, unrolled, expert, label-solve, dd, matching, or",
    ),
    "a method of a module that is not there": (
        {"method": "no_such_module:Mine"},
        r"distill no_such_module:Mine: cannot be imported \(No module named 'no_such_module'\)$",
    ),
    "a method that is not there": ({"method": "user_networks:Mine"}, "distill user_networks:Mine: cannot be imported"),
    "a method that is a function": (
        {"method": "user_networks:plain"},
        "distill user_networks:plain: expected a dataclass derived from labeldistill.Method$",
    ),
    "a method with an option of the task": (
        {"method": "user_networks:Twice"},
        "field 'target': another option has this name$",
    ),
    "the method as an option": (
        {"method": None, "positional": ["--method", "unrolled"]},
        r"distill: expected a method: labeldistill distill ridge --target \.\.\.$",
    ),
    "no method": ({"method": None}, "distill: expected a method: labeldistill distill ridge --target"),
    "experts that nobody asks": ({"expert_ensemble": 3}, "--expert-ensemble: only with --init expert$"),
    "experts' iterations without experts": ({"expert_iterations": 10}, "--expert-iterations: only with --init expert$"),
    "experts' temperature without experts": (
        {"method": "unrolled", "expert_temperature": 2.0},
        "--expert-temperature: only with --init expert$",
    ),
    "numbers of features without a solution": (
        {"method": "unrolled", "solve_networks": 3},
        "--solve-networks: only with --init label-solve$",
    ),
    "experts' network without experts": (
        {"method": "matching", "init": "uniform", "expert_network": "lenet"},
        "--expert-network: only with --init expert$",
    ),
}
METHODS_GIVEN = {
    "a method's name": ({"method": Text("ridge")}, r"method 'ridge': expected an object, labeldistill\.Ridge\(\)$"),
    "another text as method": ({"method": "nonsense"}, r"method: is a str; expected Auto\(\), Ridge\(\), SecondOrder\(\), "),
    "a method's class": ({"method": Ridge}, r"method: is a type; expected Auto\(\), Ridge\(\), "),
    "a schedule of an expert": (
        {"method": Expert(), "iterations": None, "validate_every": 2},
        "--validate-every: method 'expert' has no outer loop; expected no schedule$",
    ),
    "iterations of an expert": ({"method": Expert(), "iterations": 2}, "--iterations: method 'expert' has no outer loop"),
}
LABELS_ONLY = "only where labels are learned for base examples"
FIT = {
    "unknown things to learn": ({"learn": "pixels"}, "--learn 'pixels': expected labels, images$"),
    "unknown things to learn of dd": ({"method": "dd", "learn": "pixels"}, "--learn 'pixels': expected labels, images, both$"),
    "both with ridge": ({"learn": "both"}, "--learn 'both': expected labels, images$"),
    "images of a selection": ({"learn": "images", "selection": "herding"}, f"--selection: {LABELS_ONLY}"),
    "images with a base seed": ({"learn": "images", "base_seed": 3}, f"--base-seed: {LABELS_ONLY}"),
    "images of a source": ({"method": "dd", "source": "letters"}, f"--source: {LABELS_ONLY}"),
    "images that are balanced": ({"learn": "images", "balanced": True}, f"--balanced: {LABELS_ONLY}"),
    "images that are class-blind": ({"learn": "images", "balanced": False}, f"--balanced: {LABELS_ONLY}"),
    "random labels with ridge": (
        {"init": "random"},
        "--init 'random': expected uniform, one-hot, smoothed, expert, label-solve or a file of distilled labels$",
    ),
    "some probabilities of experts with unrolled": (
        {"method": "unrolled", "init": "expert", "expert_top_k": 2},
        "--expert-top-k 2: labels must be probabilities here; expected all of them, or 0$",
    ),
    "real labels by cross-entropy": (
        {"method": "unrolled", "label_space": "real", "loss": "cross-entropy"},
        "--label-space real: students learn these by squared error; expected --loss mse, not cross-entropy$",
    ),
    "some probabilities of experts as real labels": (
        {"method": "unrolled", "label_space": "real", "init": "expert", "expert_top_k": 2},
        "--expert-top-k 2: labels must be probabilities here; expected all of them, or 0$",
    ),
    "an unknown space of labels": (
        {"method": "unrolled", "label_space": "whole"},
        "--label-space 'whole': expected probabilities, real$",
    ),
    "squared error with a ridge head": (
        {"method": "unrolled", "head": "ridge", "loss": "mse"},
        "--loss mse: the ridge head learns by cross-entropy; expected --head linear$",
    ),
    "squared error of ridge's students": ({"loss": "mse"}, "--loss mse: the ridge head learns by cross-entropy; expected"),
    **{
        f"squared error of {method}'s students": (
            {"method": method, "head": "linear", "loss": "mse"},
            f"--loss mse: method {method} learns labels for cross-entropy; expected that, or method unrolled, expert or label-",
        )
        for method in ("ridge", "second-order", "dd", "matching")
    },
    "more stopping points than iterations": (
        {"method": "unrolled", "init": "label-solve", "solve_points": 2},
        "--solve-points 2: must be at most 1, one for each iteration$",
    ),
    "an unknown search": ({"method": "expert", "expert_choice": "all"}, "--expert-choice 'all': expected in turn, joint$"),
    "both from experts": (
        {"method": "dd", "learn": "both", "init": "expert"},
        "--init expert: needs labels that are learned for base images, not --learn images or both$",
    ),
    "a trajectory below a segment": (
        {"method": "matching", "trajectory_iterations": 39},
        "--trajectory-iterations 39: must be at least 40, a segment$",
    ),
    "other students of trajectories": (
        {"method": "matching", "optimizer": "sgd"},
        "--optimizer sgd: students here train by adam, as the experts do$",
    ),
    "epochs and iterations": ({"epochs": 1, "iterations": 1}, "--epochs and --iterations: give one of them$"),
    "resume from nothing": ({"resume": True}, "--resume: needs --checkpoint DIR$"),
}
NUMBERS = {
    **{
        f"{name} {number}": ({"iterations": None, name: number}, f"--{name} {number}: {FEW if number < 1 else MOST}")
        for name in ("epochs", "iterations")
        for number in (0, -1, HUGE)
    },
    "no outer batch": ({"outer_batch": 0}, f"--outer-batch 0: {FEW}"),
    "outer batch beyond counting": ({"outer_batch": HUGE}, f"--outer-batch {HUGE}: {MOST}"),
    "regularization of nothing": ({"lam": 0.0}, "--lam 0.0: must be above 0$"),
    "pseudo step beyond the solution": ({"pseudo_step": 1.5}, "--pseudo-step 1.5: must be at most 1$"),
    "no monitor window": ({"method": "second-order", "monitor_window": 0}, f"--monitor-window 0: {FEW}"),
    "no student steps": ({"method": "matching", "student_steps": 0}, f"--student-steps 0: {FEW}"),
    "no steps of students": ({"steps": 0}, f"--steps 0: {FEW}"),
    "validations every no epoch": ({"validate_every": 0}, f"--validate-every 0: {FEW}"),
    "no window": ({"method": "unrolled", "window": 0}, f"--window 0: {FEW}"),
    "window beyond a student": (
        {"method": "unrolled", "window": 1001},
        "--window 1001: must be at most 1000, the steps of a student",
    ),
    "window beyond the horizon": (
        {"method": "unrolled", "window": 20, "horizon": 10},
        r"--window 20: must be at most 10, the steps of a student \(--horizon\)$",
    ),
    "a student of an unknown network": (
        {"method": "unrolled", "students": "lenet,lennet"},
        "--students 'lennet': expected lenet, alexnet, ",
    ),
    "a student without a network": ({"method": "unrolled", "students": "lenet,"}, "--students '': expected "),
    "labels that never move": ({"method": "unrolled", "label_ema": 1.0}, "--label-ema 1.0: must be below 1$"),
    "outputs times nothing": ({"method": "unrolled", "outer_scale": 0.0}, "--outer-scale 0.0: must be above 0$"),
    "label step size of nothing": ({"method": "unrolled", "label_lr": 0.0}, "--label-lr 0.0: must be above 0$"),
    "endless label step size": ({"method": "unrolled", "label_lr": float("inf")}, "--label-lr inf: expected a number$"),
    "an unknown inner optimizer": (
        {"method": "unrolled", "inner_optimizer": "adamw"},
        "--inner-optimizer 'adamw': expected adam, sgd$",
    ),
    "step size of nothing": ({"method": "dd", "step_size": 0.0}, "--step-size 0.0: must be above 0$"),
    "step size that is no number": ({"method": "dd", "step_size": float("nan")}, "--step-size nan: expected a number$"),
    "no inner epochs": ({"method": "dd", "inner_epochs": 0}, f"--inner-epochs 0: {FEW}"),
    "no inner steps": ({"method": "dd", "inner_steps": 0}, f"--inner-steps 0: {FEW}"),
    "inner steps that do not divide": (
        {"method": "dd", "inner_steps": 4},
        "--base-examples 6: must be a multiple of --inner-steps 4$",
    ),
    "images that are no multiple of the classes": (
        {"method": "dd", "learn": "both", "base_examples": 7},
        "--base-examples 7: must be a multiple of the 3 classes$",
    ),
    "fewer images than classes": (
        {"method": "dd", "learn": "images", "base_examples": 2},
        "--base-examples 2: fewer than 3 classes; expected as many, or --learn both$",
    ),
    "temperature of nothing": ({"method": "expert", "expert_temperature": 0.0}, "--expert-temperature 0.0: must be above 0$"),
    "temperature that is no number": (
        {"method": "expert", "expert_temperature": float("nan")},
        "--expert-temperature nan: expected a number$",
    ),
    "temperature in words": (
        {"method": "expert", "expert_temperature": "hot"},
        "--expert-temperature 'hot': expected a number$",
    ),
    "expert iterations with a fraction": (
        {"method": "expert", "expert_iterations": "2.5"},
        f"--expert-iterations '2.5': {WHOLE}",
    ),
    "no expert iterations": ({"method": "expert", "expert_iterations": 0}, f"--expert-iterations 0: {FEW}"),
    "expert iterations beyond counting": (
        {"method": "unrolled", "init": "expert", "expert_iterations": HUGE},
        f"--expert-iterations {HUGE}: {MOST}",
    ),
    "expert iterations beyond the training": (
        {"method": "expert", "expert_iterations": 9, "expert_max_iterations": 8},
        "--expert-iterations 9: must be 1 to 8, the iterations there are$",
    ),
    "iterations of experts beyond the training": (
        {"init": "expert", "expert_iterations": 9, "expert_max_iterations": 8},
        "--expert-iterations 9: must be 1 to 8, the iterations there are$",
    ),
    "no real images of an expert": ({"method": "expert", "expert_batch_size": 0}, f"--expert-batch-size 0: {FEW}"),
    "no ensemble": ({"method": "expert", "expert_ensemble": 0}, f"--expert-ensemble 0: {FEW}"),
    "top k below nothing": ({"method": "expert", "expert_top_k": -1}, "--expert-top-k -1: must be at least 0$"),
    "top k beyond the classes": (
        {"method": "expert", "expert_top_k": 4},
        "--expert-top-k 4: must be 0 to 3, the number of classes$",
    ),
    "top k of an init beyond the classes": (
        {"method": "second-order", "init": "expert", "expert_top_k": 4},
        "--expert-top-k 4: must be 0 to 3, the number of classes$",
    ),
    "no target size": ({"target_size": 0}, "--target-size 0: must be 2 to 102, the number of training and validation examples$"),
    "target size beyond the data": ({"target_size": 99999}, "--target-size 99999: must be 2 to 102, the number of training and"),
    "target size beyond the training part": (
        {"target_size": 85, "iterations": None, "epochs": 1},
        "--target-size 85: must be 1 to 84, the number of training examples$",
    ),
    "an unknown expert network": (
        {"method": "expert", "expert_network": "nonsense"},
        "--expert-network 'nonsense': expected lenet, ",
    ),
    "an expert network of other classes": (
        {"method": "expert", "expert_network": "user_networks:wrong_output"},
        "--expert-network 'user_networks:wrong_output' maps two images to shape",
    ),
    "a network without a last linear layer, with ridge": (
        {"method": "ridge", "network": "user_networks:no_linear"},
        r"--network 'user_networks:no_linear': has no linear layer whose outputs are the 3 logits; expected one, or",
    ),
    "two last layers, with ridge": (
        {"method": "ridge", "network": "user_networks:Summed"},
        r"--network 'user_networks:Summed': has no linear layer whose outputs are the 3 logits; expected one, or",
    ),
    "an unknown start of labels of dd": (
        {"method": "dd", "learn": "labels", "init": "nowhere"},
        "--init 'nowhere': expected uniform, one-hot, smoothed, random, expert, label-solve or a file of distilled labels$",
    ),
    "an unknown start of labels of unrolled": (
        {"method": "unrolled", "init": "nowhere"},
        "--init 'nowhere': expected uniform, one-hot, smoothed, expert, label-solve or a file of distilled labels$",
    ),
    "an unknown start of images' labels": (
        {"method": "dd", "learn": "both", "init": "nowhere"},
        "--init 'nowhere': expected uniform, one-hot, smoothed, random or a file of distilled labels$",
    ),
    "labels of other images to begin with": (
        {"method": "unrolled", "init": "@labels.safetensors", "base_seed": 1},
        r"--init '.*labels\.safetensors': its labels are of other images; expected labels of these base examples$",
    ),
    "a damaged file to begin with": (
        {"method": "unrolled", "init": "@cut.safetensors"},
        r"cut\.safetensors' is not a \.safetensors file that can be read",
    ),
    "true labels of more classes": (
        {"method": "unrolled", "init": "one-hot", "source": "@four_classes.npz", "base_examples": 20},
        "the base examples have 4 classes, more than the 3 of",
    ),
}
STARTS = {
    "labels of the wrong shape": (
        {"method": "dd", "learn": "labels", "init": torch.zeros(6, 2)},
        r"--init: labels are \(6, 2\); expected finite numbers, \(6, 3\)$",
    ),
    "labels that are no numbers": (
        {"method": "unrolled", "init": torch.full((6, 3), float("nan"))},
        r"--init: labels are \(6, 3\); expected finite numbers",
    ),
    "labels that are no probabilities": (
        {"method": "unrolled", "init": torch.ones(6, 3)},
        "--init: labels must be probabilities here, rows that sum to 1$",
    ),
    "compile in words": ({"compile": "yes"}, "--compile 'yes': expected True or False$"),
    "epochs with a fraction": ({"iterations": None, "epochs": 1.5}, f"--epochs 1.5: {WHOLE}"),
    "iterations of letters": ({"iterations": "a"}, f"--iterations 'a': {WHOLE}"),
    "an outer batch with a fraction": ({"outer_batch": 32.0}, f"--outer-batch 32.0: {WHOLE}"),
}
CHECKPOINTS = {
    "a checkpoint that is not to be resumed": (
        {"checkpoint": "@kept"},
        r"kept' holds a checkpoint: resume it \(--resume\) or choose another folder$",
    ),
    "an expert where ridge was": (
        {"checkpoint": "@kept", "method": "expert"},
        r"kept' holds a checkpoint: resume it \(--resume\) or choose another folder$",
    ),
    "a checkpoint of another method": (
        {"checkpoint": "@kept", "resume": True, "method": "second-order"},
        r"checkpoint\.safetensors' was made with method = ridge, not second-order$",
    ),
    "an expert resumed where ridge was": (
        {"checkpoint": "@kept", "resume": True, "method": "expert"},
        "was made with method = ridge, not expert$",
    ),
    "a checkpoint of another hyper-parameter": (
        {"checkpoint": "@kept", "resume": True, "lam": 0.1},
        "was made with .*ridge.lam = 1.0, not 0.1$",
    ),
    "a checkpoint of another init": (
        {"checkpoint": "@kept", "resume": True, "init": "smoothed"},
        "was made with .*ridge.init = None, not smoothed$",
    ),
    "unrolled from experts resumed where ridge was": (
        {"checkpoint": "@kept", "resume": True, "method": "unrolled", "init": "expert"},
        "was made with method = ridge, not unrolled$",
    ),
    "a checkpoint of another seed": ({"checkpoint": "@kept", "resume": True, "seed": 5}, "was made with .* = .*, not "),
    "a checkpoint of other base examples": (
        {"checkpoint": "@kept", "resume": True, "base_seed": 5},
        "was made with base rows = .*, not ",
    ),
    "a checkpoint of another selection": (
        {"checkpoint": "@kept", "resume": True, "base_examples": 3},
        "was made with .* = .*, not ",
    ),
    "a checkpoint of another length": (
        {"checkpoint": "@kept", "resume": True, "iterations": 3},
        "was made with schedule.iterations = 1, not 3$",
    ),
    "a checkpoint of another outer batch": (
        {"checkpoint": "@kept", "resume": True, "outer_batch": 8},
        "was made with schedule.outer_batch = 1024, not 8$",
    ),
    "a checkpoint of another network": (
        {"checkpoint": "@kept", "resume": True, "network": "lenet"},
        "was made with network = user_networks:plain, not lenet$",
    ),
    "a checkpoint of another target": (
        {"checkpoint": "@kept", "resume": True, "target": "@other.npz"},
        "was made with target = ",
    ),
    "a checkpoint of another head": (
        {"checkpoint": "@kept", "resume": True, "head": "linear"},
        "was made with student.head = None, not linear$",
    ),
    "a damaged checkpoint": (
        {"checkpoint": "@damaged_checkpoint", "resume": True},
        r"checkpoint\.safetensors' is not a checkpoint that can be read",
    ),
    "a file as checkpoint": (
        {"checkpoint": "@notes.txt"},
        "--checkpoint '.*notes.txt': expected a folder, or a new one in a folder",
    ),
    "a checkpoint in a folder that is not there": (
        {"checkpoint": "none/kept"},
        "--checkpoint 'none/kept': expected a folder, or a new one in a folder that exists$",
    ),
    "a checkpoint of too long a name": ({"checkpoint": "x" * 250}, "--checkpoint 'x*': cannot be written"),
}
BEFORE_A_SELECTION = {  # networks would be trained to choose base examples
    "an init before a selection": ({"init": "nowhere", "selection": "herding"}, "--init 'nowhere': expected"),
    "a window before a selection": (
        {"method": "unrolled", "window": 1001, "selection": "optimised"},
        "--window 1001: must be at most 1000, the steps of a student",
    ),
    "a precision before a selection": (
        {"precision": "fp16", "selection": "herding"},
        "--precision 'fp16': expected auto, fp32, bf16$",
    ),
    "a network that is not bf16 before a selection": (
        {"precision": "bf16", "selection": "herding", "network": "user_networks:stubborn"},
        "--precision bf16: network 'user_networks:stubborn' computes with float32 numbers of its own",
    ),
    "top k before a selection": (
        {"method": "expert", "expert_top_k": 4, "selection": "hard"},
        "--expert-top-k 4: must be 0 to 3",
    ),
    "an expert network before a selection": (
        {"method": "expert", "expert_network": "nonsense", "selection": "k-center"},
        "--expert-network 'nonsense': expected lenet",
    ),
    "a ridge head on nothing but a last layer": (
        {"network": "user_networks:bare", "method": "expert", "head": "ridge"},
        "nothing in the network .*; ridge needs that, second-order does not$",
    ),
}
LATE = {
    "a checkpoint of another selection's rows": (
        {"checkpoint": "@kept", "resume": True, "selection": "easy"},
        "was made with base rows = .*, not ",
    ),
    "a loss that is no number with ridge": (
        {"network": "user_networks:diverging"},
        r"labels or loss became NaN or infinite at iteration 1$",
    ),
    "a loss that is no number with second-order": (
        {"network": "user_networks:diverging", "method": "second-order"},
        r"labels or loss became NaN or infinite at iteration 1$",
    ),
    "logits that are no numbers": (
        {"network": "user_networks:diverging", "method": "expert", "expert_max_iterations": 10},
        "an expert's logits became NaN or infinite$",
    ),
    "a temperature too low for the logits": (
        {"method": "expert", "expert_temperature": 1e-40, "expert_iterations": 1},
        "temperature 1e-40: too low for such logits$",
    ),
}
OUT = {
    "an out in a folder that is not there": (
        {"out": "none/labels.safetensors"},
        "--out 'none/labels.safetensors': cannot be written",
    ),
    "a folder as out": ({"out": "@empty_class"}, "--out '.*empty_class': is not a regular file; expected the name of a file$"),
    "an out below a file": ({"out": "@notes.txt/labels.safetensors"}, "--out '.*labels.safetensors': cannot be written"),
    "an out of too long a name": ({"out": "x" * 300 + ".safetensors"}, "--out 'x*.safetensors': cannot be written"),
    "an out without a name": ({"out": ""}, r"--out '\.?': "),
    "an out of no kind": ({"out": "labels"}, r"--out 'labels': expected a name that ends in \.safetensors$"),
    "an out of another kind": ({"out": "labels.pt"}, r"--out 'labels\.pt': expected a name that ends in \.safetensors$"),
}

# evaluate and show

ARTIFACTS = {
    "a file that is not there": (
        {"file": "none.safetensors"},
        r"'none\.safetensors' is not there; expected a \.safetensors file written",
    ),
    "a folder as file": ({"file": "@kept"}, r"kept' is a folder; expected a \.safetensors file"),
    "a cut file": ({"file": "@cut.safetensors"}, r"cut\.safetensors' is not a \.safetensors file that can be read"),
    "a text as file": ({"file": "@notes.txt"}, r"notes\.txt' is not a \.safetensors file that can be read"),
    "an empty file": ({"file": "@empty.safetensors"}, r"empty\.safetensors' is not a \.safetensors file that can be read"),
    "weights of others": (
        {"file": "@foreign.safetensors"},
        r"foreign\.safetensors' was not written by labeldistill; expected format labeldistill/2 or labeldistill/1$",
    ),
    "a file of another format": (
        {"file": "@format.safetensors"},
        r"format\.safetensors' was not written by labeldistill; expected format labeldistill/2 or labeldistill/1$",
    ),
    "a file of a newer format": (
        {"file": "@newer.safetensors"},
        r"newer\.safetensors' was written by a newer version of labeldistill; expected format labeldistill/2 or labeldistill/1$",
    ),
    "metadata that are no JSON": ({"file": "@metadata.safetensors"}, r"metadata\.safetensors' is damaged"),
    "labels of the wrong shape": (
        {"file": "@shape.safetensors"},
        r"shape\.safetensors' is damaged \(labels torch.float32 \(6, 2\) for",
    ),
    "labels that are no numbers": (
        {"file": "@nan.safetensors"},
        r"nan\.safetensors' is damaged \(labels that are NaN or infinite\)",
    ),
    "labels without rows": ({"file": "@rows.safetensors"}, r"rows\.safetensors' is damaged"),
    "labels without a network": ({"file": "@facts.safetensors"}, r"facts\.safetensors' is damaged"),
    "a place that only the file names": (
        {"target": None, "source": None},
        r"labels' (?P<it>target|source) is '.*bars\.npz': a place that a file names is not opened; "
        r"give it with --(?P=it) PLACE \((?P=it)=\.\.\.( or labels\.with_images\(PLACE\))?\)$",
    ),
    "another place than the labels' own": (
        {"source": "@changed.npz"},
        r"--source '.*changed\.npz': is not the data that the labels' base examples come from$",
    ),
    "rows beyond the source": ({"file": "@far.safetensors"}, r"the labels are damaged: base example 999 of 120 in"),
}
TESTING = {
    "no steps": ({"steps": 0}, f"--steps 0: {FEW}"),
    "steps beyond counting": ({"steps": HUGE}, f"--steps {HUGE}: {MOST}"),
    "a target of other classes": ({"target": "digits"}, "--target 'digits': has 10 classes, the labels 3$"),
    "a target that is not there": ({"target": "nonsense"}, f"--target: unknown data set or path 'nonsense'; expected {KNOWN}"),
    "a target that cannot be read": ({"target": "@cut.npz"}, r"--target: .*cut\.npz' is not an \.npz file"),
    "learned step sizes that there are not": (
        {"optimizer": "own"},
        "--optimizer own: no step sizes were learned here; expected adam, sgd, adamw$",
    ),
    "a mean of step sizes that there are not": (
        {"optimizer": "average"},
        "--optimizer average: no step sizes were learned here; expected adam, sgd, adamw$",
    ),
    "an unknown order": ({"order": "sorted"}, "--order 'sorted': expected random, learned, within, across$"),
    **{
        f"an order {order} that there is not": ({"order": order}, f"--order {order}: none was learned here; expected random$")
        for order in ("learned", "within", "across")
    },
    "labels of an unknown network": (
        {"file": "@network.safetensors", "network": None},
        "the labels were made with network 'nonsense': code that a file names is not run; .* give it with --network or network=",
    ),
    "a network without a last layer of the name": (
        {"network": None, "last_layer": "nope"},
        r"--last-layer 'nope': linear layers with 3 outputs are \['fc3'\]$",
    ),
}
TESTING_PYTHON = {
    "models that are yes or no": ({"models": True}, f"--models True: {WHOLE}"),
    "steps with a fraction": ({"steps": 2.5}, f"--steps 2.5: {WHOLE}"),
    "a target that is a tensor": ({"target": TENSOR[0]}, f"--target: {TENSOR[1]}"),
}
PICTURES = {
    "a picture of another kind": (
        {"out": "labels.docx"},
        r"--out 'labels\.docx': expected a name that ends in \.png, \.svg or \.pdf$",
    ),
    "a picture of no kind": ({"out": "labels"}, r"--out 'labels': expected a name that ends in \.png, \.svg or \.pdf$"),
    "a picture in a folder that is not there": ({"out": "none/labels.png"}, r"--out 'none/labels\.png': cannot be written"),
    "a folder as picture": ({"out": "@folder.png"}, r"--out '.*folder\.png': is not a regular file"),
}

# baseline and train-full

SMOOTHING = {
    f"label smoothing {number}": (
        {"label_smoothing": number},
        rf"--label-smoothing {number}: {words}$",
    )
    for number, words in ((1.0, "must be below 1"), (-0.1, "must be at least 0"), (math.nan, "expected a number"))
} | {
    "true labels of more classes": (
        {"source": "@four_classes.npz", "base_examples": 20},
        "the base examples have 4 classes, more than the 3 of",
    ),
}
EPOCHS = {
    "no epochs": ({"epochs": 0}, f"--epochs 0: {FEW}"),
    "epochs beyond counting": ({"epochs": HUGE}, f"--epochs {HUGE}: {MOST}"),
}

COMPILED = {
    "bfloat16": ({"precision": "bf16"}, "--precision bf16: these networks train in fp32, not compiled$"),
    "the compiler": ({"compile": True}, "--compile: these networks train in fp32, not compiled$"),
}

# reproduce and report

NAMES = {
    "an unknown table": ({"names": ["table99"]}, "'table99' is no table or figure; expected table1, .*table17.*figureA11$"),
    "an unknown table after a known one": ({"names": ["table1", "nonsense"]}, "'nonsense' is no table or figure; expected tab"),
    "an unknown scale": ({"scale": "huge"}, "--scale 'huge': expected smoke, short, paper$"),
    "an unknown engine": ({"engine": "make"}, "--engine 'make': expected inline, snakemake$"),
    "a profile of no engine": ({"profile": "slurm"}, "--profile: is for --engine snakemake$"),
    "an unknown profile": (
        {"engine": "snakemake", "profile": "nowhere"},
        r"--profile 'nowhere': expected slurm, or a folder with a config\.yaml for Snakemake$|--engine snakemake: needs Snake",
    ),
    "no jobs": ({"jobs": 0}, f"--jobs 0: {FEW}"),
    "jobs beyond counting": ({"jobs": HUGE}, f"--jobs {HUGE}: {MOST}"),
    "no runs on a GPU": ({"per_gpu": 0}, f"--per-gpu 0: {FEW}"),
    "no time": ({"time_out": 0.0}, "--time-out 0(.0)?: must be (more than 0 hours|above 0)$"),
    "less than no time": ({"time_out": -1.0}, "--time-out -1(.0)?: must be (more than 0 hours|above 0)$"),
    "time that is no number": ({"time_out": float("nan")}, "--time-out nan: (must be more than 0 hours|expected a number)$"),
    "a file as results": ({"results": "@notes.txt"}, r"--results '.*notes\.txt': expected a folder$"),
    "a table of other data": (
        {"names": ["tableA2"], "target": "@bars.npz"},
        "'tableA2' is of other data; with --target expected tableA1",
    ),
    "a paper's table elsewhere": ({"names": ["table1"], "target": "digits"}, "is of other data; with --target expected tableA1"),
    "a figure of more classes": (
        {"names": ["figureA7"], "target": "@bars.npz"},
        r"'figureA7' needs 9 classes or more; '.*bars\.npz' has 3$",
    ),
}
HOURS = {
    "no hours": ({"hours": 0}, "--hours 0(.0)?: must be above 0$"),
    "less than no hours": ({"hours": -1.0}, "--hours -1.0: must be above 0$"),
    "hours that are no number": ({"hours": float("nan")}, "--hours nan: expected a number$"),
    "hours without end": ({"hours": float("inf")}, "--hours inf: expected a number$"),
    "hours for an unknown table": ({"hours": 1, "names": ["table99"]}, "'table99' is no table or figure; expected table1, "),
    "hours at an unknown scale": ({"hours": 1, "scale": "huge"}, "--scale 'huge': expected smoke, short, paper$"),
    "hours and no jobs": ({"hours": 1, "jobs": 0}, f"--jobs 0: {FEW}"),
    "hours elsewhere": ({"hours": 1, "names": ["tableA1"], "target": "digits"}, "--hours: plans .*not with --target, --engine"),
    "hours of a cluster": ({"hours": 1, "engine": "snakemake"}, "--hours: plans .*not with --target, --engine, --profile$"),
}
SETTINGS = {
    "a network without a target": ({"network": "lenet"}, "--network: only with --target$"),
    "pixels without a target": ({"image_size": 16}, "--image-size: only with --target$"),
    "channels without a target": ({"channels": 3}, "--channels: only with --target$"),
    "an unknown target": ({"target": "nonsense"}, f"--target: unknown data set or path 'nonsense'; expected {KNOWN}"),
    "an unknown network": ({"target": "digits", "network": "nonsense"}, "--network 'nonsense': expected lenet, "),
    "pixels too few": ({"target": "digits", "image_size": 8}, "lenet.* images of 16 pixels or more, not 8"),
    "no pixels": ({"target": "digits", "image_size": 0}, "--image-size 0: must be at least 1, at most 1024$"),
    "two channels": ({"target": "digits", "channels": 2}, r"--channels 2: expected 1 \(gray\) or 3 \(colou?r\)$"),
}
REPORTS = {
    "an unknown scale": ({"scale": "huge"}, "--scale 'huge': expected smoke, short, paper$"),
    "results that are not there": ({"results": "nowhere"}, "--results '.*nowhere': expected the folder of all runs$"),
    "a file as results": ({"results": "@notes.txt"}, r"--results '.*notes\.txt': expected the folder of all runs$"),
    "a file as out": ({"out": "@notes.txt"}, r"--out '.*notes\.txt': expected a folder$"),
}
BELOW_A_FILE = {"an out below a file": ({"out": "@notes.txt/report"}, "notes.txt")}

# What only the command line's parser sees

PARSED = {
    "distill": {
        "target": None,
        "out": None,
        "base_examples": "many",
        "iterations": "1.5",
        "lam": "small",
        "image_size": "big",
    },
    "evaluate": {"file": None, "models": "many", "steps": "1.5", "seed": "a"},
    "baseline": {"target": None, "base_examples": "1.5", "label_smoothing": "much", "models": "many", "seed": "a"},
    "train-full": {"target": None, "epochs": "many", "seed": "a", "channels": "red"},
    "show": {"file": None, "out": None},
    "reproduce": {"names": None, "jobs": "many", "time_out": "long", "hours": "many"},
    "report": {"image_size": "big"},
}
SHOWN = {"file": "FILE", "names": "NAMES"}


def parsed(verb: str) -> list[Refusal]:
    "What a verb cannot do without, numbers that are none, unknown options and surplus words."
    table = {
        f"{name} {'missing' if value is None else value}": (
            {name: value},
            f"(?i){'missing|' if value is None else ''}{SHOWN.get(name, '--' + name.replace('_', '-'))}",
        )
        for name, value in PARSED[verb].items()
    }
    other = {
        "an unknown option": ({"nonsense": "1"}, "(?i)no such option: --nonsense"),
        "an option without a value": (
            {"positional": ["--data-root" if verb not in ("reproduce", "report") else "--scale"]},
            "requires an argument",
        ),
    }
    surplus = {"a surplus word": ({"positional": ["surplus"]}, r"(?i)unexpected extra argument")}
    return rows(verb, table | other | (surplus if verb != "reproduce" else {}), COMMAND)


UNKNOWN = [
    Refusal("an unknown verb", "nonsense", {}, "No such command 'nonsense'", COMMAND),
    Refusal("an unknown option before the verb", "--nonsense", {}, "(?i)no such option: --nonsense", COMMAND),
    Refusal("datasets: an unknown option", "datasets", {"nonsense": "1"}, "(?i)no such option: --nonsense", COMMAND),
    Refusal("datasets: a surplus word", "datasets", {"positional": ["surplus"]}, "(?i)unexpected extra argument", COMMAND),
]

REFUSALS = [
    *rows("distill", DATA | NETWORK | PIXELS | DEVICE | BASE | PRECISION | HEAD | FIT | NUMBERS | CHECKPOINTS),
    *rows("distill", METHOD_OPTIONS | METHODS_NAMED, COMMAND),
    *rows("distill", METHODS_GIVEN | STUDENTS_PYTHON, PYTHON),
    *rows("distill", BEFORE_A_SELECTION | STUBBORN | BARE),
    *rows("distill", SEED | BASE_PYTHON | STARTS | {"a target that is a tensor": ({"target": TENSOR[0]}, TENSOR[1])}, PYTHON),
    *rows(
        "distill",
        {f"in memory: {name}": ({"target": data}, f"--target: 'mine': .*{text}") for name, (data, text) in MEMORY.items()},
        PYTHON,
    ),
    *rows("distill", {"a source that is a tensor": ({"source": TENSOR[0]}, f"--source: {TENSOR[1]}")}, PYTHON),
    *rows("distill", BASE_LATE | LATE, late=True),
    *rows("distill", OUT, COMMAND),
    *rows("evaluate", STUBBORN),
    *rows("baseline", STUBBORN | PRECISION),
    *rows("evaluate", ARTIFACTS | NETWORK | DEVICE | PRECISION | HEAD | OPTIMIZER | MODELS | TESTING),
    *rows("evaluate", SEED | OPTIMIZERS | TESTING_PYTHON, PYTHON),
    *rows("baseline", NETWORK | PIXELS | DEVICE | BASE | HEAD | OPTIMIZER | MODELS | SMOOTHING),
    *rows("baseline", {name: DATA[name] for name in DATA if "nonsense" in str(DATA[name]) or "size" in name or "cut" in name}),
    *rows("baseline", SEED | OPTIMIZERS | BASE_PYTHON, PYTHON),
    *rows("baseline", BASE_LATE, late=True),
    *rows("train-full", NETWORK | PIXELS | DEVICE | EPOCHS),
    *rows(
        "train-full", {name: DATA[name] for name in DATA if name.startswith(("an unknown target", "target cut", "target few"))}
    ),
    *rows("train-full", COMPILED, PYTHON),
    *rows("train-full", SEED | {"epochs with a fraction": ({"epochs": 1.5}, f"--epochs 1.5: {WHOLE}")}, PYTHON),
    *rows(
        "train-full",
        {"a loss that is no number": ({"network": "user_networks:diverging"}, "NaN or infinite in epoch 1$")},
        late=True,
    ),
    *rows("show", ARTIFACTS | PICTURES),
    *rows("reproduce", NAMES | DEVICE),
    *rows("reproduce", HOURS, COMMAND),
    *rows("reproduce", SETTINGS, names=["tableA1"]),
    *rows("report", SETTINGS | REPORTS),
    *rows("report", BELOW_A_FILE, COMMAND),
    *(row for verb in PARSED for row in parsed(verb)),
    *UNKNOWN,
]
