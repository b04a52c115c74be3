"""The executor: every run once, whatever is killed; time-outs, slots, Snakemake, SLURM."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
from one_node_slurm import missing, one_node_slurm
from tiny_runs import WORK, configure, coordinate, job, lines, notebook, twelve

from labeldistill import InputError
from labeldistill.reproduce import executor
from labeldistill.reproduce.executor import (
    Job,
    Slot,
    find_checkout,
    first_free,
    gpu_slot,
    processes_of,
    reproduce,
    run_inline,
    run_one,
)
from labeldistill.reproduce.exhibits import ANYWHERE, Setting, all_runs, setting_of
from labeldistill.reproduce.runs import Run, finished_record, new_run, to_parameters
from labeldistill.utils import asset

linux = pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes as Linux does")
snakemake = pytest.mark.skipif(not importlib.util.find_spec("snakemake"), reason="Snakemake is not installed")


@pytest.fixture
def no_kernels(monkeypatch):
    "Tiny runs as plain Python, without a notebook."

    def command_for(job, folder, device):
        given = to_parameters(job.run) | {"folder": str(folder)}
        return ["\n".join([*(f"{name} = {value!r}" for name, value in given.items()), WORK])]

    monkeypatch.setattr(executor, "command_for", command_for)
    monkeypatch.setattr(executor, "PRELOADED", ())


def until(true, seconds=300):
    "Waits for something to become true."
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A results folder with the tiny notebook; Jupyter's own files are kept there too."
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    notebook(tmp_path)
    yield tmp_path
    (tmp_path / "smoke").mkdir(exist_ok=True)
    for run in (tmp_path / "smoke").iterdir():
        executor.kill_processes_of(run)


class Twelve:
    "Twelve runs, whose coordinator is killed when some are done and others in flight."

    def __init__(self, folder, environment, engine="inline", profile="", workers=2):
        self.folder, self.jobs, self.given, self.workers = folder, twelve(folder), (engine, profile, str(workers)), workers
        script = Path(__file__).parents[1] / "tiny_runs.py"
        self.coordinator = subprocess.Popen([sys.executable, script, folder, *self.given], env=environment)

    def done(self):
        return [one for one in self.jobs if finished_record(one.run, self.folder)]

    def in_flight(self):
        "Those that wait at the gate."
        return [one for one in self.jobs if (one.run.folder(self.folder) / "checkpoint").exists() and one not in self.done()]

    def kill_halfway(self):
        "Kills coordinator and Snakemake, and leaves the runs in flight to themselves."
        until(lambda: self.coordinator.poll() is not None or len(self.in_flight()) == self.workers, seconds=900)
        assert self.coordinator.poll() is None and 3 <= len(self.done()) < 3 + self.workers
        assert self.kill() == 1 + ("snakemake" in self.given)

    def kill(self):
        "Kills the coordinator; says how many processes that took."
        if self.coordinator.poll() is not None:
            return 0
        coordinator = psutil.Process(self.coordinator.pid)
        family = [coordinator, *(child for child in coordinator.children(recursive=True) if "--snakefile" in child.cmdline())]
        for process in family:
            process.kill()
        self.coordinator.wait()
        return len(family)

    def resume(self):
        "Everything that is left, by a second coordinator."
        (self.folder / "smoke" / "gate").touch()
        return coordinate(self.folder, *self.given, self.jobs)

    def check(self, outcomes):
        "Nothing lost, nothing run twice."
        assert [outcome.run for outcome in outcomes] == [one.run for one in self.jobs]
        assert [outcome.run for outcome in outcomes if outcome.state == "failed"] == [self.jobs[3].run]
        assert "exit status 1: AssertionError: failure" in outcomes[3].why
        for number, one in enumerate(self.jobs):
            times = {2: (2,), 3: (2, 4)}.get(number, (1,))  # the one that always fails: two attempts by one or both coordinators
            assert len(lines(self.folder, one, "began")) in times, number
            assert len(lines(self.folder, one, "ended")) == (number != 3), number
            assert "AssertionError" in (one.run.folder(self.folder) / "run.ipynb").read_text() or number != 3
        assert [one for one in self.jobs if one not in self.done()] == [self.jobs[3]]


@pytest.fixture
def twelve_runs(folder, environment):
    "Starts twelve runs."
    started = []

    def start(*engine_and_profile):
        started.append(Twelve(folder, environment | {"PATH": os.environ["PATH"]}, *engine_and_profile))
        return started[-1]

    yield start
    for runs in started:
        runs.kill()


@pytest.mark.slow
def test_a_killed_coordinator_loses_nothing_and_repeats_nothing(twelve_runs):
    "Half a minute."
    runs = twelve_runs()
    runs.kill_halfway()
    runs.check(runs.resume())


@pytest.mark.slow
@snakemake
def test_a_killed_snakemake_loses_nothing_and_repeats_nothing(twelve_runs):
    "Two minutes."
    runs = twelve_runs("snakemake")
    runs.kill_halfway()
    runs.check(runs.resume())


@pytest.mark.slow
@linux
@snakemake
def test_sigterm_ends_snakemake_and_its_runs(twelve_runs):
    "Half a minute; Ctrl-C is ignored, as where a script has started the coordinator in the background."
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        runs = twelve_runs("snakemake")
    finally:
        signal.signal(signal.SIGINT, ignored)
    until(lambda: any(processes_of(one.run.folder(runs.folder)) for one in runs.jobs))
    runs.coordinator.terminate()
    assert runs.coordinator.wait(120) == 143
    assert not any(processes_of(one.run.folder(runs.folder)) for one in runs.jobs)


@pytest.fixture
def slurm(monkeypatch):
    "A SLURM of one node, to be found by commands."
    if absent := missing():
        pytest.skip(f"SLURM is not installed: no {', '.join(absent)}")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="slurm") as folder:  # short: a socket's path has 108 characters at most
        with ExitStack() as stack:
            try:
                commands = stack.enter_context(one_node_slurm(folder))
            except RuntimeError as error:
                pytest.skip(str(error))
            monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
            yield


@pytest.mark.slow
@snakemake
def test_slurm_jobs_outlive_their_coordinator_and_nothing_is_run_twice(slurm, twelve_runs, folder):
    "Two minutes."
    runs = twelve_runs("snakemake", str(asset("slurm")), 4)
    runs.kill_halfway()
    runs.check(runs.resume())
    assert "SLURM" in (folder / "smoke" / ".engine" / "snakemake.log").read_text()


def test_two_coordinators_share_the_work(folder, no_kernels):
    jobs = [job(folder, number) for number in range(4)]
    first = Thread(target=run_inline, args=(jobs, configure(folder), 2, False))
    first.start()
    outcomes = run_inline(jobs, configure(folder), 2, progress=False)
    first.join()
    assert {outcome.state for outcome in outcomes} <= {"done", "kept"}
    assert all(lines(folder, job, "began") == ["new"] and lines(folder, job, "ended") == ["once"] for job in jobs)


def test_a_run_that_the_file_system_refuses_does_not_stop_the_others(folder, no_kernels):
    bad, good = job(folder, 0), job(folder, 1)
    (bad.run.folder(folder) / "log.txt").mkdir(parents=True)  # a file cannot be written there
    refused, done = run_inline([bad, good], configure(folder), progress=False)
    assert (refused.state, done.state) == ("failed", "done") and "log.txt" in refused.why


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("=== 2026-01-01T00:00:00+00:00 exit status 1: no space", "exit status 1: no space"),
        ("CUDA error: out of memory", "CUDA error: out of memory"),
        ("", "did not begin: see 'snakemake.log'"),
    ],
)
def test_the_reason_of_a_run_that_snakemake_lost_is_its_last_line(folder, line, why):
    lost = job(folder, 0)
    lost.run.folder(folder).mkdir(parents=True)
    (lost.run.folder(folder) / "log.txt").write_text(f"{line}\n" if line else "")
    found = executor._outcome(lost, folder, {lost.run}, {lost.run}, Path("snakemake.log"))
    assert found == executor.Outcome(lost.run, "failed", why)


def test_what_needs_a_failed_run_does_not_begin(folder, no_kernels):
    bad = job(folder, 0, fails=99)
    jobs = [job(folder, 1, needs=[bad]), bad, job(folder, 2)]
    outcomes = run_inline(jobs, configure(folder, threads=3), progress=False)
    assert [outcome.state for outcome in outcomes] == ["blocked", "failed", "done"]
    summary = executor.Summary(tuple(outcomes), folder)
    assert summary.status == 1 and bad.run.name in str(summary) and "log.txt" in str(summary)
    assert "1 blocked, 1 failed, 1 done" in str(summary)
    assert not lines(folder, jobs[0], "began")
    assert finished_record(jobs[2].run, folder).results["threads"] == "3"
    log = (bad.run.folder(folder) / "log.txt").read_text()
    assert log.count("===") == 4 and "AssertionError: failure 2" in log


@pytest.mark.parametrize("damaged", [{"result.json": '{"results": {"num'}, {"result.json": '{"results": {}}', "run.json": "{}"}])
def test_a_damaged_record_is_made_again(damaged, folder, no_kernels):
    made = job(folder, 0)
    made.run.folder(folder).mkdir(parents=True)
    for name, text in damaged.items():
        (made.run.folder(folder) / name).write_text(text)
    assert run_one(made, configure(folder)).state == "done" and finished_record(made.run, folder)
    assert run_one(made, configure(folder)).state == "kept"


@linux
def test_a_killed_process_is_tried_again_and_nothing_of_it_is_left(folder):
    waiting, outcomes = job(folder, 0, free=0), []
    run = waiting.run
    worker = Thread(target=lambda: outcomes.append(run_one(waiting, configure(folder))))
    worker.start()
    until(lambda: (run.folder(folder) / "checkpoint").exists())
    before = processes_of(run.folder(folder))
    (process,) = before
    os.kill(process, signal.SIGKILL)
    until(lambda: len(lines(folder, waiting, "began")) == 2)
    assert not set(before) & set(processes_of(run.folder(folder)))
    (folder / "smoke" / "gate").touch()
    worker.join()
    assert outcomes[0].state == "done" and lines(folder, waiting, "began") == ["new", "checkpointed"]
    assert lines(folder, waiting, "ended") == ["once"]


CHILDREN = """
import os, subprocess, time
print(os.getpid(), subprocess.Popen(["setsid", "sleep", "61"]).pid, flush=True)
if not os.fork():
    os.setsid()
    print(os.getpid(), flush=True)
time.sleep(62)
"""


@pytest.fixture(params=["interpreter", "fork"])
def start(request, monkeypatch, tmp_path):
    "Both ways to start a command."
    monkeypatch.setattr(executor, "PRELOADED", ())
    if request.param == "interpreter":
        yield executor.start_process
    else:
        with closing(executor.ForkServer(configure(tmp_path, threads=2))) as server:
            assert executor.run_process([""], tmp_path, configure(tmp_path), Slot(None, ()), Event(), server) == "exit status 0"
            yield server


def works(process):
    "Whether a process is there, and not as a zombie."
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@linux
def test_the_time_out_kills_everything_a_run_has_started(start, tmp_path):
    limits = configure(tmp_path, timeout_s=3)
    slot = Slot(None, (os.open(tmp_path / "lock", os.O_CREAT),))
    how = executor.run_process([CHILDREN], tmp_path, limits, slot, Event(), start)
    assert how == "time-out after 3 s" and not processes_of(tmp_path)
    started = [int(line) for line in (tmp_path / "log.txt").read_text().split()]
    assert len(started) == 3
    until(lambda: not any(works(process) for process in started))  # it has lost its environment a moment before it is gone


SHOW = """
import json, numpy, os, random, sys, torch
print(json.dumps({
    "chance": [torch.initial_seed(), random.random(), numpy.random.random()],
    "arguments": sys.argv, "folder": os.getcwd(), "leads": os.getsid(0) == os.getpid(), "threads": torch.get_num_threads(),
    "environment": {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "LABELDISTILL_RUN", "OMP_NUM_THREADS")},
    "input": sys.stdin.read(), "cuda": torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork(),
    "driver": "libcuda.so" in open("/proc/self/maps").read(), "processes": len(os.listdir("/proc/self/task")),
}))
sys.exit(7)
"""


@linux
def test_a_command_finds_its_place_and_no_cuda_before_its_own(start, tmp_path):
    config, lines = configure(tmp_path, threads=2), []
    for gpu in ("1", None):
        how = executor.run_process([SHOW, "1e-05"], tmp_path, config, Slot(gpu, ()), Event(), start)
        assert how == "exit status 7"
        lines.append(json.loads(executor.last_line(tmp_path)))
    place = {"LABELDISTILL_RUN": str(tmp_path), "OMP_NUM_THREADS": "2"}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    assert [line.pop("environment") for line in lines] == [place | {"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("1", seen)]
    assert all(line.pop("processes") <= 2 for line in lines)  # numpy's BLAS may have started its second thread
    assert len({number for line in lines for number in line.pop("chance")}) == 6
    expected = {"arguments": ["-c", "1e-05"], "folder": str(tmp_path), "leads": True, "threads": 2}
    assert lines == [expected | {"input": "", "cuda": False, "driver": False}] * 2


ENDS = {"1 / 0": (1, "ZeroDivisionError: division by zero"), "raise SystemExit('no')": (1, "no"), "print('yes')": (0, "yes")}
ENDS |= {"exit()": (0, "yes"), "import os; os.abort()": (-6, "yes")}


@linux
def test_a_command_ends_as_in_an_interpreter(start, tmp_path):
    for code, (status, said) in ENDS.items():
        how = executor.run_process([code], tmp_path, configure(tmp_path), Slot(None, ()), Event(), start)
        assert (how, executor.last_line(tmp_path)) == (f"exit status {status}", said)


WAIT = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)"
FILES = "import os\nfor number in os.listdir('/proc/self/fd'): print(os.path.realpath(f'/proc/self/fd/{number}'))"


@linux
def test_a_killed_fork_server_costs_one_attempt_and_leaves_the_locks_with_their_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "PRELOADED", ())
    gate, config, locks = tmp_path / "gate", configure(tmp_path), [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "other").mkdir()
    with closing(executor.ForkServer(config)) as server:
        with ExitStack() as stack:
            mine, other = (Slot(None, (stack.enter_context(first_free([file])).descriptor,)) for file in locks)
            child = server([WAIT, str(gate)], tmp_path, config, mine)
            assert executor.run_process([FILES], tmp_path / "other", config, other, Event(), server) == "exit status 0"
        opened = (tmp_path / "other" / "log.txt").read_text()
        assert str(locks[1]) in opened and str(locks[0]) not in opened and "socket" not in opened
        server.process.kill()
        assert child.poll(None) == -signal.SIGKILL and processes_of(tmp_path) == [child.pid]
        assert executor.try_lock(locks[0]) is None and executor.try_lock(locks[1]) is not None
        gate.touch()
        until(lambda: not processes_of(tmp_path))
        with first_free(locks[:1], patience_s=60):  # a process has lost its environment a moment before its files
            pass
        assert executor.run_process(["exit(3)"], tmp_path, config, Slot(None, ()), Event(), server) == "exit status 3"


@linux
def test_what_a_server_has_not_begun_can_be_given_up(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text(WAIT.replace("sys.argv[1]", repr(str(tmp_path / "gate"))))
    monkeypatch.setattr(executor, "PRELOADED", ("slow_to_import",))
    config, stop = configure(tmp_path, called_from=tmp_path, timeout_s=0.2), Event()
    touch, slot = ["import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"], Slot(None, ())
    with closing(executor.ForkServer(config)) as server:
        how = executor.run_process([*touch, str(tmp_path / "late")], tmp_path, config, slot, stop, server)
        assert how == "time-out after 0.2 s"
        stop.set()
        assert executor.run_process([*touch, str(tmp_path / "stopped")], tmp_path, config, slot, stop, server) == "interrupted"
        (tmp_path / "gate").touch()
        more = config._replace(timeout_s=300)
        assert executor.run_process([*touch, str(tmp_path / "new")], tmp_path, more, slot, Event(), server) == "exit status 0"
        assert (tmp_path / "new").exists() and not (tmp_path / "late").exists() and not (tmp_path / "stopped").exists()
    (tmp_path / "gate").unlink()
    with closing(executor.ForkServer(config)) as server:
        child = server([*touch, str(tmp_path / "never")], tmp_path, config, slot)
        server.process.kill()
        assert child.poll(None) == -signal.SIGKILL and child.pid is None


def test_a_run_that_times_out_has_failed(folder):
    waiting = job(folder, 0, free=0)
    outcome = run_one(waiting, configure(folder, timeout_s=2))
    assert outcome.state == "failed" and outcome.why.startswith("time-out after 2 s")
    assert not processes_of(waiting.run.folder(folder))


@linux
def test_sigterm_ends_the_runs_in_flight(folder, environment):
    waiting = job(folder, 0, free=0)
    code = "from tiny_runs import *; from labeldistill.reproduce import executor; executor.PRELOADED = (); "
    code += "coordinate(sys.argv[1], 'inline', '', 1, [job(sys.argv[1], 0, free=0)])"
    coordinator = subprocess.Popen([sys.executable, "-c", code, folder], env=environment)
    until(lambda: lines(folder, waiting, "began"))
    assert processes_of(waiting.run.folder(folder))
    coordinator.terminate()
    assert coordinator.wait(120) == 143 and not processes_of(waiting.run.folder(folder))


def test_a_gpu_is_never_shared_by_more_runs_than_it_has_slots(folder, no_kernels, monkeypatch):
    monkeypatch.setattr(executor, "gpus", lambda device: ["0", "7"])
    jobs = [job(folder, number) for number in range(4)]
    outcomes = run_inline(jobs, configure(folder), 4, progress=False)
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    found = [finished_record(job.run, folder).results for job in jobs]
    assert {result["gpu"] for result in found} == {"0", "7"}
    for gpu in ("0", "7"):
        spans = sorted(result["time"] for result in found if result["gpu"] == gpu)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_what_is_stopped_is_to_do_and_goes_on(folder, no_kernels):
    first, second = job(folder, 0), job(folder, 1, free=0)
    third = job(folder, 2, needs=[second])
    jobs = [first, second, third]
    stop, config = Event(), configure(folder)

    def ended(outcome):
        until(lambda: lines(folder, second, "began"))
        stop.set()

    outcomes = run_inline(jobs, config, 2, progress=False, stop=stop, ended=ended)
    assert [outcome.state for outcome in outcomes] == ["done", "to do", "to do"]
    assert not processes_of(second.run.folder(folder)) and not third.run.folder(folder).exists()
    (folder / "smoke" / "gate").touch()
    outcomes = run_inline(jobs, config, 2, progress=False)
    assert [outcome.state for outcome in outcomes] == ["kept", "done", "done"]
    assert lines(folder, second, "began") == ["new", "checkpointed"] and lines(folder, second, "ended") == ["once"]


def test_a_slot_is_free_again_when_its_holder_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with gpu_slot(["0"]):
        (slot,) = tmp_path.glob("labeldistill-slots-*/0.0")
    code = "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, slot], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(TimeoutError), first_free([slot], patience_s=0.1):
            pass
        holder.kill()
        holder.wait()
        with gpu_slot(["0"]) as mine:
            assert mine.gpu == "0"


def test_waiting_for_a_lock_can_be_ended(tmp_path):
    stop = Event()
    with first_free([tmp_path / "lock"]):
        stop.set()
        with pytest.raises(InterruptedError), first_free([tmp_path / "lock"], stop=stop):
            pass


def test_gpus_are_called_as_cuda_calls_them(monkeypatch):
    import torch

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(executor, "select_device", torch.device)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert executor.gpus("cuda") == ["0", "1"] and executor.gpus("cpu") == []
    with pytest.raises(InputError, match="--device 'mps': runs are done on a CPU or on GPUs of CUDA"):
        executor.gpus("mps")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc,5")
    assert executor.gpus("cuda") == ["GPU-abc", "5"] and executor.gpus("cuda:1") == ["5"]


NETWORK = """
from torch import nn

def build(channels, image_size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))
"""


def test_jobs_need_no_papermill_and_find_networks_and_data_where_the_user_called(bars_npz, tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / "data", elsewhere):
        folder.mkdir(parents=True)
    (home / "a_network_of_mine.py").write_text(NETWORK)
    shutil.copy(bars_npz, home / "data" / "own.npz")
    monkeypatch.setenv("LABELDISTILL_DATA", "data")
    monkeypatch.setattr(executor, "find_spec", lambda name: None)
    task = {"target": "own.npz", "network": "a_network_of_mine:build", "base_examples": 6}
    run = new_run("baseline", "smoke", task=task, method={"true": {}}, test={"models": 1, "steps": 3})
    config = configure(tmp_path, called_from=home)
    manifest = executor.write_manifest([Job(run, Path("none.ipynb"))], config, "smoke", elsewhere)
    monkeypatch.chdir(elsewhere)  # as Snakemake's jobs
    with pytest.raises(SystemExit) as end:
        executor.run_job(str(manifest), run.name, "1")
    assert not end.value.code and finished_record(run, tmp_path) and not (run.folder(tmp_path) / "run.ipynb").exists()


def test_parameters_arrive_as_they_were(tmp_path):
    parameters = {"small": 1e-05, "none": None, "yes": True, "text": "1e-05", "list": [1, "E → K"]}
    tiny = Job(Run("smoke", {"kind": "tiny"} | parameters), Path("tiny.ipynb"))
    command = executor.command_for(tiny, tmp_path, "cpu")
    assert json.loads(command[-1])["parameters"] == {**parameters, "folder": str(tmp_path), "device": "cpu"}


def test_a_dry_run_does_nothing(tmp_path):
    wanted = reproduce(["table6", "figure3"], "smoke", dry_run=True, results=tmp_path)
    assert wanted.status == 0 and {outcome.state for outcome in wanted.outcomes} == {"to do"}
    assert str(wanted).count("to do: ") == len(wanted.outcomes) and not any(tmp_path.iterdir())


@snakemake
def test_a_dry_run_of_snakemake_counts_runs_and_report(tmp_path, capfd):
    wanted = reproduce(["table6", "tableA5", "figure3"], "smoke", "snakemake", dry_run=True, results=tmp_path)
    rows = dict(line.split() for line in capfd.readouterr().out.splitlines() if len(line.split()) == 2)
    assert (rows["run"], rows["report"]) == (str(len(wanted.outcomes)), "1")
    assert not any(tmp_path.iterdir())


@snakemake
def test_snakemake_draws_nothing_of_another_setting(tmp_path, capfd):
    wanted = reproduce(["tableA5"], "smoke", "snakemake", setting=setting_of("letters"), dry_run=True, results=tmp_path)
    rows = dict(line.split() for line in capfd.readouterr().out.splitlines() if len(line.split()) == 2)
    assert rows["run"] == str(len(wanted.outcomes)) and "report" not in rows


def test_all_of_another_setting_is_every_study(tmp_path):
    letters = setting_of("letters")
    runs = [outcome.run for outcome in reproduce(["all"], "smoke", setting=letters, dry_run=True, results=tmp_path).outcomes]
    assert runs == all_runs(ANYWHERE, "smoke", letters) and {run.spec["task"]["target"] for run in runs} == {"letters"}


def test_all_is_every_table_and_figure(tmp_path):
    everything = reproduce(["all"], "smoke", dry_run=True, results=tmp_path)
    one = reproduce(["table1"], "smoke", dry_run=True, results=tmp_path)
    assert {outcome.run for outcome in one.outcomes} < {outcome.run for outcome in everything.outcomes}


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["table99"], {}, "table17"),
        (["table1"], {"scale": "huge"}, "smoke, short, paper"),
        (["table1"], {"engine": "make"}, "inline, snakemake"),
        (["table1"], {"jobs": 0}, "--jobs 0: must be at least 1"),
        (["table1"], {"jobs": 10**10}, "--jobs 10000000000: must be at most 1000000000"),
        (["table1"], {"per_gpu": 0}, "--per-gpu 0: must be at least 1"),
        (["table1"], {"timeout_s": 0}, "--time-out 0.0: must be above 0"),
        (["table1"], {"device": "cuda:99"}, "--device"),
        (["table1"], {"profile": "slurm"}, "--profile"),
        (["table1"], {"setting": Setting("digits", "lenet", 10)}, "tableA1, .*figureA11"),
    ],
)
def test_bad_input_is_one_line_that_says_what_is_allowed(names, options, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        reproduce(names, dry_run=True, results=tmp_path, **options)
    assert "\n" not in str(error.value)


def test_without_snakemake_its_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr(executor, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"labeldistill\[cluster\]"):
        reproduce(["table1"], engine="snakemake", dry_run=True)


def test_outside_a_checkout_one_line_says_so(monkeypatch, tmp_path, repository):
    assert find_checkout() == repository
    monkeypatch.setattr(executor.labeldistill, "__file__", str(tmp_path / "site-packages" / "labeldistill" / "__init__.py"))
    monkeypatch.chdir(repository / "nbs")
    assert find_checkout() == repository
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="clone of the repository"):
        reproduce(["table1"], dry_run=True)
