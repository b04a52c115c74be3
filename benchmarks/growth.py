"""How time and memory of one iteration grow with the numbers of base examples, real images and classes, and with the image size.

    python benchmarks/growth.py [--json] [--series base_examples,outer_batch,classes,image_size] [--precision fp32] [--rounds 7]

LeNet on random images, N = 100, N_o = 1024, C = 10, 1 x 28 x 28, but for what is varied; with more than 100 classes there are as
many base examples as classes. N_i follows the paper's rule. All points of one series and method take turns, in processes of their
own. `peak_mb` is the most that tensors took at one time, beyond the data and the state; for `gflop` see iterations.py.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import ExitStack

from iterations import BENCHED, Setting, iteration, operations
from measure import alternate, own_process, parser, peak_bytes, report, words

from labeldistill.networks.compute import PRECISIONS, Computation

SERIES = {
    "base_examples": [10, 100, 500, 1000, 5000],
    "outer_batch": [64, 256, 1024, 4096],
    "classes": [10, 50, 100, 200],
    "image_size": [16, 28, 32, 64, 96],
}


def point(method: str, series: str, value: int, computation: Computation) -> Setting:
    "The setting at one point of a series."
    setting = Setting("lenet", method, computation)._replace(**{series: value})
    return setting._replace(base_examples=max(setting.base_examples, setting.classes)) if series == "classes" else setting


def rows(options: argparse.Namespace) -> Iterator[dict]:
    "One row for each point of each series and method."
    for series, method in itertools.product(options.series, BENCHED):
        settings = {value: point(method, series, value, Computation(options.precision)) for value in SERIES[series]}
        with ExitStack() as processes:
            begin = lambda setting: processes.enter_context(own_process(options.threads, iteration, setting))  # noqa: E731
            times = alternate({value: begin(setting) for value, setting in settings.items()}, options.rounds)
        for value, setting in settings.items():
            iterate = iteration(setting)
            iterate()
            yield {
                "series": series,
                "value": value,
                "method": method,
                "precision": options.precision,
                "threads": options.threads,
                "inner_batch": setting.inner_batch,
                "clock_ms": 1e3 * times[value].clock,
                "processor_ms": 1e3 * times[value].processor,
                "peak_mb": peak_bytes(iterate) / 1e6,
                "gflop": operations(setting) / 1e9,
            }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--series", type=words, default=list(SERIES), help="names, with commas between")
    options.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the network")
    options.add_argument("--rounds", type=int, default=7, help="turns of each point that count")
    report(rows, options.parse_args())


if __name__ == "__main__":
    main()
