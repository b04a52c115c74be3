"""Faults to plant, one at a time, into a copy of the package; the tests that are named with each must then fail.

`make mutants` plants them all and prints which test caught each; `make mutants NAMES="lost-momentum ..."` some of them.
It fails if a fault passes unseen, or cannot be planted. `test_mutants.py` keeps the list from going stale.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("labeldistill", "tests", "benchmarks")  # the rest of the clone is linked to; no git, so that none is changed
TIME_OUT = 600  # seconds of tests with one fault: a hang counts as caught
FORKS = multiprocessing.get_context("forkserver")  # what the package imports is imported once, the package in each copy
IMPORTED = ["torch", "torchvision", "safetensors.torch", "hypothesis", "pandas", "seaborn", "typer"]


class Fault(NamedTuple):
    "A piece of the package and what it is turned into."

    name: str
    file: str  # below labeldistill/
    old: str  # found exactly once
    new: str
    why: str  # it is wrong
    tests: str  # below tests/, that should catch it: files, or tests in them, separated by blanks


def rows(
    file: str,
    tests: str,
    table: dict[str, tuple[str, str, str]],  # old text, new text and why it is wrong, by name
) -> list[Fault]:
    "Faults in one file."
    return [Fault(name, file, *texts, tests) for name, texts in table.items()]


METHODS = [
    *rows(
        "methods/gradients.py",
        "methods/test_gradients.py",
        {
            "label-gradient-sign": (
                "return alpha / len(images) * change",
                "return -alpha / len(images) * change",
                "labels would move up the outer loss",
            ),
            "label-gradient-mean": (
                "return alpha / len(images) * change",
                "return alpha * change",
                "the inner loss is a mean over the minibatch",
            ),
            "ridge-softmax-axis": (
                "weights).softmax(1) - one_hot",
                "weights).softmax(0) - one_hot",
                "probabilities are over classes, not over images",
            ),
            "ridge-gradient-scale": (
                "return scale / len(targets) *",
                "return 1 / len(targets) *",
                "logits are scaled, so their gradient is too",
            ),
        },
    ),
    *rows(
        "methods/optimizers.py",
        "methods/test_optimizers.py",
        {
            "adam-bias": ("size = lr / (1 - betas[0] ** step)", "size = lr", "the first means are biased towards zero"),
            "simplex-no-clamp": (
                "labels = labels.clamp(0, 1)",
                "labels = labels.clamp(0)",
                "entries are cut at one before the division",
            ),
            "simplex-axis": (
                "return labels / labels.sum(1, keepdim=True)",
                "return labels / labels.sum(0, keepdim=True)",
                "rows sum to one, not columns",
            ),
            "clip-memory": (
                "norm_ema + 0.05 * (kept - norm_ema)",
                "norm_ema + 0.05 * (norm - norm_ema)",
                "the usual length is that of clipped gradients",
            ),
            "no-clip": (
                "shrunk = gradient * (kept / norm.clamp(min=torch.finfo(norm.dtype).tiny))",
                "shrunk = gradient",
                "one wild window would move all labels",
            ),
        },
    ),
    *rows(
        "methods/optimizers.py",
        "methods/test_images.py::test_five_iterations_of_dataset_distillation_are_those_of_the_naive_form",
        {
            "adam-schedule-late": (
                "lr(state.step) if callable(lr)",
                "lr(state.step + 1) if callable(lr)",
                "a schedule begins at step 0",
            ),
        },
    ),
    *rows(
        "methods/optimizers.py",
        "methods/test_unrolled.py::test_ten_windows_give_the_labels_of_the_naive_form",
        {
            "softmax-jacobian-axis": (
                "labels = params.softmax(1)",
                "labels = params.softmax(0)",
                "logits are of one image's label",
            ),
        },
    ),
    *rows(
        "methods/resets.py",
        "methods/test_resets.py",
        {
            "reset-late": ("due = waiting > width", "due = waiting > width + 1", "a network is replaced one iteration too late"),
            "reset-equal-is-better": (
                "(total < state.best)",
                "(total <= state.best)",
                "an error that stands still would never bring a reset",
            ),
            "steps-in-hindsight": ("end - begin - window - 1 for", "end - begin - window for", "T_i would be one step too long"),
        },
    ),
    *rows(
        "methods/resets.py",
        "methods/test_unrolled.py::test_a_student_goes_on_to_its_horizon_and_the_next_one_begins",
        {
            "horizon-late": (
                "train_state.aux.steps >= train_state.aux.horizon",
                "train_state.aux.steps > train_state.aux.horizon",
                "a student would go a window further",
            ),
        },
    ),
    *rows(
        "methods/second_order.py",
        "methods/test_against_naive.py",
        {
            "look-ahead-sign": (
                "ahead = theta - alpha * gradient",
                "ahead = theta + alpha * gradient",
                "the inner step goes down",
            ),
        },
    ),
    *rows(
        "methods/ridge.py",
        "methods/test_against_naive.py",
        {
            "ridge-missing-detach": (
                "known = features.detach(), factor.detach(), weights.detach(), scale.detach()",
                "known = features, factor, weights, scale",
                "the network would be trained through its labels too",
            ),
            "ridge-old-labels": (
                "ridge_loss(features, weights, scale, labels[batch.rows])",
                "ridge_loss(features, weights, scale, state.params[batch.rows])",
                "the network trains on the updated labels (Algorithm 1, line 12)",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_horizons_are_whole_windows_up_to_the_longest_training",
        {
            "horizon-never-longest": (
                "torch.randint(1, most + 1, ()",
                "torch.randint(1, most, ()",
                "students would never be as old as the test's",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_a_student_goes_on_to_its_horizon_and_the_next_one_begins",
        {
            "window-steps": (
                "aux._replace(steps=aux.steps + self.inner_steps)",
                "aux._replace(steps=aux.steps + 1)",
                "Adam's bias correction and the horizon count training steps",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "training/test_recipes.py::test_a_window_takes_the_steps_that_the_students_recipe_has",
        {
            "window-cosine-from-zero": (
                "cosine_share(done + torch.arange",
                "cosine_share(0 * done + torch.arange",
                "step sizes in a window go on from those before it",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_several_students_give_the_mean_of_their_gradients",
        {
            "students-summed": (
                "sum(gradients) / len(seen)",
                "sum(gradients)",
                "several students give the mean of their gradients",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_students_of_one_network_begin_apart_and_end_together",
        {
            "students-beside-alike": (
                'stream(seed, "student beside", number)',
                'stream(seed, "student beside", 0)',
                "students of one network begin apart",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_the_mean_of_labels_is_what_is_kept_and_tested",
        {
            "mean-of-labels-not-kept": (
                "params.mean if isinstance(params, Averaged)",
                "params.now if isinstance(params, Averaged)",
                "students are tested on the mean of the labels",
            ),
        },
    ),
    *rows(
        "methods/unroll.py",
        "training/test_recipes.py::test_gradients_through_an_averaged_run_are_those_of_one_graph",
        {
            "averaged-run-judged-by-its-end": (
                "(*zeros, direction) if trajectory.averages else (direction, *zeros)",
                "(direction, *zeros)",
                "the gradient of the averaged weights reaches every step",
            ),
        },
    ),
    *rows(
        "methods/unroll.py",
        "methods/test_unrolled.py::test_ten_windows_give_the_labels_of_the_naive_form",
        {
            "window-of-another-loss": (
                "LOSSES[self.error](",
                'LOSSES["cross-entropy"](',
                "windows minimize what their students do",
            ),
        },
    ),
    *rows(
        "methods/label_solve.py",
        "methods/test_label_solve.py::test_labels_are_those_of_one_least_squares_problem_over_the_pool",
        {
            "solve-last-network": (
                "normal + weights @ gram @ weights.T",
                "weights @ gram @ weights.T",
                "all networks of a pool count",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_ten_windows_give_the_labels_of_the_naive_form",
        {
            "window-last-row-wins": (
                ".index_add(0, rows.flatten(), found)",
                ".index_copy(0, rows.flatten(), found)",
                "an image that is seen several times has several gradients",
            ),
        },
    ),
    *rows(
        "methods/unrolled.py",
        "methods/test_unrolled.py::test_labels_move_as_fast_as_they_are_told",
        {
            "label-step-size": (
                "return LABEL_LR if uniform else FINE_LABEL_LR",
                "return FINE_LABEL_LR if uniform else LABEL_LR",
                "labels that say nothing move fast, others finely",
            ),
        },
    ),
    *rows(
        "methods/unroll.py",
        "methods/test_unroll.py::test_the_forward_run_is_that_of_an_ordinary_optimizer",
        {
            "momentum-damped": (
                "velocity = 0.9 * memory[0] + gradient",
                "velocity = 0.9 * memory[0] + 0.1 * gradient",
                "torch.optim.SGD adds the whole gradient",
            ),
        },
    ),
    *rows(
        "methods/unroll.py",
        "methods/test_unroll.py",
        {
            "backward-forwards": (
                "for t in reversed(range(",
                "for t in (range(",
                "the adjoint goes from the last step to the first",
            ),
            "steps-from-zero": (
                "numbers = done + torch.arange(1, len(lr) + 1,",
                "numbers = done + torch.arange(0, len(lr),",
                "Adam's first step has the number 1",
            ),
        },
    ),
    *rows(
        "methods/matching.py",
        "methods/test_matching.py",
        {
            "matching-goal": (
                "trajectory[first + config.segment, 0]",
                "trajectory[first + 1, 0]",
                "the goal is a whole segment ahead",
            ),
            "matching-gradient": ("length, 2 * left / length", "length, left / length", "the distance is a square"),
        },
    ),
    *rows(
        "methods/images.py",
        "methods/test_images.py::test_five_iterations_of_dataset_distillation_are_those_of_the_naive_form",
        {
            "dd-decay": ("0.5 ** (step // steps)", "0.5 ** (step / steps)", "the rate is halved in steps, not all the time"),
            "dd-rate-gradient": (
                'gradients["lr"] * params.raw_lr.sigmoid()',
                'gradients["lr"]',
                "what is learned is the number whose softplus is the rate",
            ),
            "dd-one-epoch": (
                "x.unflatten(0, (epochs, -1)).sum(0).flatten(0, 1)",
                "x.unflatten(0, (epochs, -1))[-1].flatten(0, 1)",
                "images are seen in every epoch",
            ),
        },
    ),
    *rows(
        "methods/images.py",
        "methods/test_images.py::test_twenty_iterations_give_the_images_and_the_network_of_the_naive_form",
        {
            "pixel-gradient-std": (
                'direction)["images"][0] / self.std',
                'direction)["images"][0]',
                "pixels are divided by the deviation before the network sees them",
            ),
        },
    ),
]

EXPERTS = [
    *rows(
        "methods/experts.py",
        "methods/test_experts.py::test_temperature_one_is_the_softmax_and_heat_makes_labels_more_even",
        {
            "temperature-upside-down": ("(logits / temperature)", "(logits * temperature)", "heat makes labels more even"),
        },
    ),
    *rows(
        "methods/experts.py",
        "methods/test_experts.py::test_an_ensemble_speaks_with_the_mean_of_its_logits",
        {
            "one-expert-speaks": (
                "trajectory.logits[:, point].mean(0)",
                "trajectory.logits[0, point]",
                "an ensemble speaks with the mean of its logits",
            ),
        },
    ),
    *rows(
        "methods/experts.py",
        "methods/test_experts.py::test_top_k_keeps_the_largest_as_they_are",
        {
            "top-k-one-more": (
                "labels.topk(min(count, labels.shape[-1])",
                "labels.topk(min(count + 1, labels.shape[-1])",
                "k entries are kept",
            ),
        },
    ),
    *rows(
        "methods/experts.py",
        "methods/test_experts.py::test_an_expert_at_a_checkpoint_is_one_that_stopped_there",
        {
            "experts-judged-on-training": (
                "accuracies.append(task.validation.accuracy(expert))",
                "accuracies.append(task.train.accuracy(expert))",
                "accuracies are of the validation part",
            ),
        },
    ),
    *rows(
        "methods/experts.py",
        "test_streams.py",
        {
            "experts-alike": ('stream(seed, "expert", i)', 'stream(seed, "expert")', "experts begin differently"),
        },
    ),
    *rows(
        "methods/expert_selection.py",
        "methods/test_experts.py::test_the_search_finds_the_checkpoint_and_then_the_temperature",
        {
            "temperature-of-first-point": (
                "score(first, x))\n    while",
                "score(firsts[0], x))\n    while",
                "the temperature is chosen at the stopping point that was chosen",
            ),
        },
    ),
    *rows(
        "methods/expert_selection.py",
        "methods/test_experts.py::test_experts_train_for_five_epochs_and_at_least_1500_iterations",
        {
            "experts-trained-briefly": ("default = max(5 *", "default = min(5 *", "at least 1,500 iterations"),
        },
    ),
]

LOOP = [
    *rows(
        "methods/loop.py",
        "methods/test_loop.py::test_worse_labels_are_never_kept_however_close_and_ties_go_to_the_later",
        {
            "best-labels-tolerance": (
                "if accuracy >= progress.best.accuracy:",
                "if accuracy + 1 >= progress.best.accuracy:",
                "labels up to a point worse would be kept",
            ),
        },
    ),
    *rows(
        "methods/loop.py",
        "methods/test_loop.py::test_a_network_that_overfits_is_replaced_and_labels_and_their_adam_go_on",
        {
            "same-network-again": (
                'return stream(seed, "network", resets)',
                'return stream(seed, "network", 0)',
                "a reset brings a new network",
            ),
            "resets-counted-from-zero": (
                "done + 1 + rows[:, 3].nonzero().flatten()",
                "done + rows[:, 3].nonzero().flatten()",
                "iterations are counted from one",
            ),
        },
    ),
    *rows(
        "methods/loop.py",
        "methods/test_loop.py::test_a_resumed_run_ends_like_an_uninterrupted_one_and_repeats_nothing",
        {
            "resume-without-adam": (
                "progress = (checkpoint and checkpoint.load(progress)) or progress",
                "fresh, progress = progress, (checkpoint and checkpoint.load(progress)) or progress\n"
                "    progress = progress._replace(state=progress.state._replace(opt_state=fresh.state.opt_state))",
                "the optimizer of the labels goes on where it was",
            ),
        },
    ),
    *rows(
        "methods/loop.py",
        "methods/test_loop.py::test_labels_that_were_best_before_the_interruption_are_kept",
        {
            "resume-without-best": (
                "progress = (checkpoint and checkpoint.load(progress)) or progress",
                "fresh, progress = progress, (checkpoint and checkpoint.load(progress)) or progress\n"
                "    progress = progress._replace(best=fresh.best)",
                "the best labels may lie before the interruption",
            ),
        },
    ),
    *rows(
        "methods/loop.py",
        "methods/test_loop.py::test_validation_comes_every_five_epochs_but_a_hundred_iterations_apart_and_at_the_end",
        {
            "last-validation": (
                "% every == 0 or len(progress.curve) == total",
                "% every == 0",
                "the last labels are validated too",
            ),
        },
    ),
    *rows(
        "methods/loop.py",
        "test_streams.py",
        {
            "same-order-each-epoch": (
                'generator(seed, "outer", epoch)',
                'generator(seed, "outer")',
                "every epoch has an order of its own",
            ),
        },
    ),
    *rows(
        "api.py",
        "methods/test_loop.py::test_a_checkpoint_of_another_seed_is_refused_also_where_no_base_examples_tell",
        {
            "checkpoint-of-another-seed": (
                'run | {"seed": seed, "precision": task.computation.precision}',
                'run | {"precision": task.computation.precision}',
                "a run is resumed by its own seed only",
            ),
        },
    ),
    *rows(
        "methods/checkpoint.py",
        "methods/test_loop.py::test_a_checkpoint_of_other_settings_is_refused_and_kept",
        {
            "checkpoint-differences": (
                "for key in expected | saved:",
                "for key in [*expected][:-2]:",
                "all of a description counts",
            ),
        },
    ),
    *rows(
        "utils.py",
        "test_killed.py::test_whoever_has_the_old_file_open_reads_it_to_its_end",
        {
            "replace-is-a-copy": (
                "os.replace(part, path)",
                '__import__("shutil").copyfile(part, path)',
                "a kill within the copy leaves half a file",
            ),
        },
    ),
]

TRAINING = [
    *rows(
        "training/ridge.py",
        "methods/test_gradients.py",
        {
            "ridge-lambda-sign": ("gram + lam * torch.eye", "gram - lam * torch.eye", "the ridge is added"),
            "pseudo-step": (
                "return (1 - alpha) * weights + alpha * local",
                "return weights + alpha * local",
                "global weights move towards local ones",
            ),
        },
    ),
    *rows(
        "training/trainer.py",
        "methods/test_speed.py::test_optimizers_by_name_are_torchs_with_these_numbers",
        {
            "lost-weight-decay": (
                "lr=1e-3, weight_decay=1e-2, fused=True",
                "lr=1e-3, weight_decay=0.0, fused=True",
                "AdamW without decay is Adam",
            ),
        },
    ),
    *rows(
        "training/trainer.py",
        "methods/test_unrolled.py::test_a_student_takes_the_steps_that_evaluation_takes",
        {
            "lost-momentum": (
                "lr=1e-2, momentum=0.9, fused=True",
                "lr=1e-2, fused=True",
                "students by sgd have a momentum of 0.9",
            ),
        },
    ),
    *rows(
        "training/trainer.py",
        "methods/test_speed.py::test_a_step_takes_the_step_size_that_it_is_given",
        {
            "learned-rate-ignored": ('self[0].param_groups[0]["lr"] = rate', "pass", "learned step sizes are taken"),
        },
    ),
    *rows(
        "training/trainer.py",
        "methods/test_speed.py::test_the_ridge_layers_scale_takes_the_steps_of_adam",
        {
            "scale-not-trained": (
                '[_as_parameter(trained["scale"], self.gradients["scale"])], head.scale_lr',
                '[_as_parameter(trained["scale"], self.gradients["scale"])], 0.0',
                "the calibration scale is learned",
            ),
        },
    ),
    *rows(
        "training/heads.py",
        "methods/test_speed.py::test_running_statistics_follow_training_and_serve_the_test",
        {
            "test-mode": (
                "for mode in (True, False))",
                "for mode in (True, True))",
                "dropout and batch statistics are off in a test",
            ),
        },
    ),
    *rows(
        "training/training_set.py",
        "methods/test_images.py::test_step_sizes_go_with_their_minibatch_and_their_mean_follows",
        {
            "mean-rate-too-early": (
                "if place < len(data.rates) else mean",
                "if place < len(data.rates) - 1 else mean",
                "every learned step size is used",
            ),
        },
    ),
    *rows(
        "training/training_set.py",
        "methods/test_optimizers.py",
        {
            "smoothing": ("+ smoothing / classes", "+ smoothing / (classes - 1)", "rows sum to one"),
        },
    ),
    *rows(
        "training/evaluation.py",
        "core/test_api.py::test_an_evaluation_reports_both_and_reads_as_one_line",
        {
            "std-ddof": ("exact.std().item()", "exact.std(correction=0).item()", "the deviation is that of a sample"),
        },
    ),
    *rows(
        "training/evaluation.py",
        "core/test_api.py::test_accuracies_are_the_share_of_right_answers_and_the_mean_of_those_of_the_classes",
        {
            "fraction-for-percent": (
                "100 * (hits.double() / sizes)[sizes > 0]",
                "(hits.double() / sizes)[sizes > 0]",
                "accuracies are in per cent",
            ),
        },
    ),
    *rows(
        "training/evaluation.py",
        "methods/test_experts.py::test_a_mean_curve_is_the_mean_of_curves_and_the_first_of_equals_is_best",
        {
            "last-of-equals": (
                "best = max(curve, key=curve.get)",
                "best = max(reversed(curve), key=curve.get)",
                "of equals the fewest steps",
            ),
        },
    ),
    *rows(
        "training/evaluation.py",
        "test_streams.py",
        {
            "students-alike": ('stream(seed, "student", i)', 'stream(seed, "student", 0)', "each student has a seed of its own"),
        },
    ),
    *rows(
        "training/evaluation.py",
        "training/test_evaluation.py",
        {
            "longest-candidate": ("range(50, 1001, 50)", "range(50, 1000, 50)", "students are looked at up to 1,000 steps"),
        },
    ),
    *rows(
        "training/real_data.py",
        "training/test_real_data.py",
        {
            "cosine-ends-early": (
                "epochs * -(-len(real.images) // FULL_BATCH)",
                "epochs * (len(real.images) // FULL_BATCH)",
                "the step size is zero after the last step, not before",
            ),
        },
    ),
    *rows(
        "training/selection.py",
        "training/test_selection.py",
        {
            "easy-is-hard": (
                "losses.argsort(descending=hard)",
                "losses.argsort(descending=not hard)",
                "hard examples have large losses",
            ),
            "herding-by-length": (
                "features = normalize(features)",
                "features = features + 0",
                "herding compares directions, not lengths",
            ),
            "selection-on-all-parts": (
                "validation = pool.image_set(pool.parts.valid)",
                "validation = pool.image_set(pool.parts.test)",
                "base examples are chosen on the validation part",
            ),
        },
    ),
]

DATA = [
    *rows(
        "data/streams.py",
        "test_streams.py",
        {
            "stream-without-seed": ("map(str, (seed, *purpose))", "map(str, (*purpose,))", "other seeds are other runs"),
        },
    ),
    *rows(
        "data/datasets.py",
        "data/test_datasets.py::test_normalisation_is_the_mean_and_deviation_of_the_training_part_alone",
        {
            "wrong-channel": (
                "device=images.device) for value in values]",
                "device=images.device) for value in values[::-1]]",
                "every channel has its own mean and deviation",
            ),
            "normalised-by-all": (
                "for rows in train.split(1024)",
                "for rows in torch.arange(len(dataset.images)).split(1024)",
                "the test part is not known",
            ),
        },
    ),
    *rows(
        "data/datasets.py",
        "data/test_datasets.py::test_parts_have_the_promised_sizes",
        {
            "split-seventy": (
                "[round(0.7 * n), round(0.85 * n)]",
                "[round(0.75 * n), round(0.85 * n)]",
                "70, 15 and 15 per cent",
            ),
        },
    ),
    *rows(
        "data/datasets.py",
        "data/test_datasets.py::test_the_three_parts_are_disjoint_and_complete",
        {
            "validation-in-training": (
                "Split(rows[:train_size], rows[train_size:],",
                "Split(rows, rows[train_size:],",
                "parts are disjoint",
            ),
        },
    ),
    *rows(
        "data/datasets.py",
        "data/test_datasets.py::test_identity_tells_pixels_labels_and_shapes_apart",
        {
            "identity-without-labels": (
                "for part in (self.images, self.labels):",
                "for part in (self.images,):",
                "labels are content",
            ),
        },
    ),
    *rows(
        "data/datasets.py",
        "data/test_folders.py",
        {
            "copies-apart": ("rows[part[originals[rows]] == number]", "rows[part[rows] == number]", "copies stay in one part"),
        },
    ),
    *rows(
        "data/images.py",
        "data/test_catalog.py",
        {
            "gray-rounded-down": (".add_(1 << 15) >> 16", " >> 16", "brightness is rounded as Pillow does"),
        },
    ),
    *rows(
        "data/folders.py",
        "data/test_folders.py",
        {
            "numbers-as-words": (
                "[(0, int(part), part) if part.isdecimal()",
                "[(0, 0, part) if part.isdecimal()",
                "10 comes after 2",
            ),
        },
    ),
    *rows(
        "data/base.py",
        "data/test_datasets.py::test_base_sets_are_balanced_nested_and_from_the_training_part",
        {
            "base-not-balanced": (
                "class_rank(labels[shuffled]).argsort(stable=True)",
                "labels[shuffled].argsort(stable=True)",
                "as many of every class",
            ),
        },
    ),
    *rows(
        "data/base.py",
        "data/test_datasets.py::test_the_inner_batch_follows_the_papers_rule",
        {
            "inner-batch": ("{20: 10, 50: 25}", "{20: 10}", "the paper's rule halves 50 too"),
        },
    ),
]

FRONT = [
    *rows(
        "task.py",
        "test_guarantees.py::test_a_poisoned_test_part_changes_nothing_that_is_distilled",
        {
            "validation-is-test": (
                "image_set(self.target, self.split.valid,",
                "image_set(self.target, self.split.test,",
                "nothing is chosen on the test part",
            ),
        },
    ),
    *rows(
        "task.py",
        "methods/test_loop.py::test_an_epoch_sees_every_training_image_once_and_inner_batches_without_repetition",
        {
            "training-is-validation": (
                "image_set(self.target, self.split.train,",
                "image_set(self.target, self.split.valid,",
                "labels are learned from the training part",
            ),
        },
    ),
    *rows(
        "task.py",
        "methods/test_loop.py::test_epochs_are_counted_over_the_training_part",
        {
            "iterations-rounded-down": (
                "per_epoch = -(-examples // outer_batch)",
                "per_epoch = examples // outer_batch",
                "an epoch sees every image",
            ),
        },
    ),
    *rows(
        "api.py",
        "test_guarantees.py::test_a_baseline_chooses_its_steps_on_the_validation_part",
        {
            "tested-on-validation": (
                "part(parts.test)",
                "part(parts.valid)",
                "accuracies are of the test part",
            ),
        },
    ),
    *rows(
        "api.py",
        "networks/test_networks.py::test_accuracy_is_that_of_the_test_part",
        {
            "full-training-tested-on-validation": (
                "real, validation, test = (image_set",
                "real, test, validation = (image_set",
                "accuracies are of the test part",
            ),
        },
    ),
    *rows(
        "api.py",
        "core/test_api.py::test_students_of_the_test_are_those_of_the_labels_unless_told",
        {
            "stored-student-wins": (
                "for name, value in vars(given).items() if value is not None}",
                "for name, value in vars(given).items() if vars(labels.student)[name] is None}",
                "what is given counts",
            ),
        },
    ),
    *rows(
        "api.py",
        "core/test_api.py::test_classes_in_another_order_are_put_into_that_of_the_labels",
        {
            "classes-the-other-way": (
                "torch.tensor([place[name] for name in own])",
                "torch.tensor([own.index(name) for name in classes])",
                "the target's class is looked up among the labels'",
            ),
        },
    ),
    *rows(
        "api.py",
        "core/test_artifact.py::test_a_curve_counts_iterations_from_one_and_averages_between",
        {
            "curve-from-zero": (
                "for stretch in stretches]).cumsum(0)",
                "for stretch in stretches]).cumsum(0) - 1",
                "iterations are counted from one",
            ),
        },
    ),
    *rows(
        "api.py",
        "methods/test_images.py::test_dataset_distillation_for_a_fixed_initialization_teaches_the_bars",
        {
            "any-initialization": (
                "labels.fixed_init if own else None",
                "None",
                "labels for one initialization are tested with it",
            ),
        },
    ),
    *rows(
        "artifact.py",
        "core/test_artifact.py::test_normalised_images_become_the_pixels_that_they_were",
        {
            "pixels-of-inputs": (
                "return ((inputs * std + mean) * 255)",
                "return ((inputs + mean) * std * 255)",
                "the inverse of (x - mean) / std",
            ),
        },
    ),
    *rows(
        "artifact.py",
        "core/test_artifact.py",
        {
            "fact-not-saved": (
                '"resets", "rates", "init", "fixed_init"),',
                '"resets", "rates", "init"),',
                "a file holds all that belongs to its labels",
            ),
            "changed-data-accepted": (
                "return dataset.sha256 == self.sha256 or (self.raw",
                "return dataset.name == self.name or (self.raw",
                "data are known by content",
            ),
        },
    ),
    *rows(
        "analysis.py",
        "core/test_analysis.py",
        {
            "mean-over-all-classes": (
                "totals / index.bincount()[:, None]",
                "totals / len(index)",
                "a mean is over the images of its own class",
            ),
        },
    ),
    *rows(
        "reproduce/plan.py",
        "reproduce/test_plan.py::test_a_chain_of_runs_takes_as_long_as_one_worker_takes_for_it",
        {
            "plan-forgets-chains": (
                "max([min(free), *(ends.get(need, 0.0) for need in needs)])",
                "min(free)",
                "a run begins after those that it needs",
            ),
        },
    ),
    *rows(
        "cli.py",
        "core/test_cli.py::test_a_seed_on_the_command_line_is_that_of_everything",
        {
            "baseline-of-usual-seed": (
                "true_labels(task, label_smoothing, seed=seed, ",
                "true_labels(task, label_smoothing, ",
                "base examples are drawn with the seed that is given",
            ),
        },
    ),
]

REPRODUCE = [
    *rows(
        "config.py",
        "reproduce/test_experiments.py::test_a_name_depends_on_kind_and_every_field_but_not_on_scale_or_order",
        {
            "identity-by-order": (
                "json.dumps(values, sort_keys=True)",
                "json.dumps(values)",
                "a run does not depend on the order of its fields",
            ),
        },
    ),
    *rows(
        "config.py",
        "reproduce/test_experiments.py::test_a_field_that_is_new_and_a_default_that_moves_leave_old_records_where_they_are",
        {
            "absent-fields-count": ("and value == absent[name])}", "and False)}", "new fields leave old records where they are"),
        },
    ),
    *rows(
        "reproduce/records.py",
        "reproduce/test_experiments.py::test_a_name_depends_on_kind_and_every_field_but_not_on_scale_or_order",
        {
            "identity-without-seed": (
                "for name, values in spec.items():",
                'for name, values in (item for item in spec.items() if item[0] != "seed"):',
                "each seed has a record of its own",
            ),
        },
    ),
    *rows(
        "reproduce/records.py",
        "reproduce/test_experiments.py::test_times_of_all_attempts_are_counted_and_the_code_is_that_of_the_beginning",
        {
            "seconds-of-last-attempt": (
                '"seconds": round(self.earlier_s + time.time() - self.now, 3)',
                '"seconds": round(time.time() - self.now, 3)',
                "all attempts are counted",
            ),
        },
    ),
    *rows(
        "reproduce/runs.py",
        "reproduce/test_experiments.py::test_a_record_of_another_run_is_not_accepted",
        {
            "record-of-another-run": (
                "return record if record is not None and _is_of(record, run) else None",
                "return record",
                "a folder's name may lie",
            ),
        },
    ),
    *rows(
        "reproduce/experiments.py",
        "reproduce/test_experiments.py::test_timing_extrapolates_from_two_lengths",
        {
            "timing-one-stretch-more": (
                "(stretches - 1) * (twice - once)",
                "stretches * (twice - once)",
                "the first stretch is counted already",
            ),
        },
    ),
    *rows(
        "reproduce/experiments.py",
        "reproduce/test_experiments.py::test_sensitivity_tests_around_the_estimated_steps",
        {
            "sensitivity-without-sign": (
                "steps=max(1, steps + by)",
                "steps=max(1, steps + abs(by))",
                "fewer steps are tested too",
            ),
        },
    ),
    *rows(
        "reproduce/compare.py",
        "reproduce/test_render.py",
        {
            "verdict-one-sided": (
                "same = abs(difference) <= limit",
                "same = difference <= limit",
                "much worse is not reproduced",
            ),
            "verdict-turned-round": (
                'else "better" if difference > 0 else "worse"',
                'else "better" if difference < 0 else "worse"',
                "higher accuracies are better",
            ),
            "tolerance-of-one-network": (
                "ours.std**2 / ours.n +",
                "ours.std**2 +",
                "the deviation of a mean falls with its number",
            ),
            "networks-behind-dd": (
                "DD_NETWORKS if cell.table in ORIGINAL_DD else PAPER_NETWORKS",
                "PAPER_NETWORKS",
                "200 networks are behind the tables about the original",
            ),
        },
    ),
    *rows(
        "reproduce/compare.py",
        "reproduce/test_render.py::test_spreads_are_those_of_rows_of_table_6",
        {
            "spread-of-the-other-method": (
                "'LD RR' if ridge else 'LD'",
                "'LD' if ridge else 'LD RR'",
                "each method has its own spread",
            ),
        },
    ),
    *rows(
        "reproduce/runs.py",
        "reproduce/test_experiments.py::test_scales_have_folders_of_their_own",
        {
            "cells-of-two-scales": (
                "return Path(results) / self.scale / self.name",
                "return Path(results) / self.name",
                "scales share no results",
            ),
        },
    ),
    *rows(
        "reproduce/budget.py",
        "reproduce/test_studies.py::test_the_budget_is_kept "
        "reproduce/test_studies.py::test_several_experts_cost_as_much_each "
        "reproduce/test_studies.py::test_what_is_charged_is_what_is_done",
        {
            "budget-without-choice": (
                '"choosing": self.choice + self.validations(iterations) * self.validation}',
                '"choosing": self.validations(iterations) * self.validation}',
                "choosing among experts' labels is paid for",
            ),
        },
    ),
    *rows(
        "reproduce/compare.py",
        "reproduce/test_results.py::test_all_students_of_all_base_sets_count_and_validation_picks",
        {
            "pooled-first-set": (
                'for x in done.results["tests"][augmentation]["accuracy"]["values"]]',
                'for x in done.results["tests"][augmentation]["accuracy"]["values"][:1]]',
                "all students of all base sets count",
            ),
        },
    ),
]

FAULTS = [*METHODS, *EXPERTS, *LOOP, *TRAINING, *DATA, *FRONT, *REPRODUCE]


def plant(fault: Fault, package: Path) -> None:
    "Plant a fault in a copy of the package. Raises `ValueError` unless its old text is there exactly once."
    path = package / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.file}: its text is there {text.count(fault.old)} times; expected once")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def copy_to(folder: Path) -> None:
    "A copy of the clone whose package may be changed."
    for path in ROOT.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)


class Unshrunk:
    "A plugin of pytest: that a test fails is enough, its shortest example is not looked for."

    def pytest_collection(self) -> None:
        settings.register_profile("unshrunk", settings.default, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("unshrunk")


def run_tests(folder: Path, tests: list[str]) -> None:
    "Run tests of a copy in this process, and exit with pytest's status."
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1), os.dup2(output, 2), os.chdir(folder)
    sys.path[:] = [
        str(folder),
        *(path for path in sys.path if path and Path(path) not in (ROOT, ROOT / "tests", ROOT / "benchmarks")),
    ]
    os.environ["PYTHONPATH"] = str(folder)
    os.setsid()  # so that what the tests start ends with them
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:randomly"]
    sys.exit(int(pytest.main([*options, *(f"tests/{test}" for test in tests)], plugins=[Unshrunk()])))


def first_failure(tests: Iterable[str], fault: Fault | None = None, time_out: float = TIME_OUT) -> str:
    "The first of the tests that fails in a copy with a fault; empty if all pass. Raises `ValueError` if they cannot be run."
    with TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name).resolve()
        copy_to(folder)
        if fault:
            plant(fault, folder / "labeldistill")
        process = FORKS.Process(target=run_tests, args=(folder, [*tests]))
        process.start(), process.join(time_out)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL), process.join()
            return f"no end within {time_out} s"
        said = (folder / "output").read_text(encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) tests/([^\s\[]+)", said, re.MULTILINE)
    if process.exitcode not in (0, 1) or bool(process.exitcode) != bool(failed):
        raise ValueError(f"tests not run: {said.strip().splitlines()[-1]}")
    return failed[1] if failed else ""


def verdict(fault: Fault) -> tuple[bool, str]:
    "Whether a fault is caught, and the test that does, or what is amiss."
    try:
        caught = first_failure(fault.tests.split(), fault)
    except ValueError as error:
        return False, f"NOT PLANTED: {error}"
    return bool(caught), caught or f"PASSED UNSEEN: {fault.why} ({fault.tests})"


def main(names: list[str], jobs: int) -> int:
    "Plant the faults, print a table, and check that what caught them passes without; the status is 1 if anything is amiss."
    if unknown := {*names} - {fault.name for fault in FAULTS}:
        sys.exit(f"no fault {', '.join(sorted(unknown))}; expected {', '.join(fault.name for fault in FAULTS)}")
    os.environ |= {"MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    FORKS.set_forkserver_preload(IMPORTED)
    chosen, caught, amiss = [fault for fault in FAULTS if not names or fault.name in names], set(), 0
    with ThreadPoolExecutor(jobs) as pool:
        for fault, (well, said) in zip(chosen, pool.map(verdict, chosen), strict=True):
            print(f"{fault.name:36} {said}", flush=True)
            caught, amiss = caught | ({said} if "::" in said else {*fault.tests.split()}) if well else caught, amiss + (not well)
    if caught and (false := first_failure(sorted(caught), time_out=10 * TIME_OUT)):
        sys.exit(f"{false} fails without a fault")
    print(f"{len(chosen)} faults, {amiss} amiss; what caught the others passes without them")
    return int(amiss > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="faults to plant; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="copies at once")
    arguments = parser.parse_args()
    sys.exit(main(arguments.names, arguments.jobs))
