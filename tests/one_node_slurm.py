"""A SLURM of one node: controller and node daemons of this machine, in a folder of their own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def find(name):
    "A program, also among those of the administrator; None if it is not installed."
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_ports(count):
    "Numbers of ports that nobody listens on."
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def missing():
    "What is not installed."
    return [name for name in (*DAEMONS, *COMMANDS) if not find(name)]


def write_commands(folder, configuration):
    "SLURM's commands for a configuration. Jobs of Snakemake lose SLURM_CONF, but not the path on which they find these."
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\nSLURM_CONF="{configuration}" exec "{find(name)}" "$@"\n')
        (folder / name).chmod(0o755)


@contextmanager
def one_node_slurm(folder):
    "Starts the daemons and ends them; gives the folder of SLURM's commands for them. RuntimeError if they do not start."
    folder = Path(folder)
    write_commands(folder / "bin", folder / "slurm.conf")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    settings = {"host": socket.gethostname().split(".")[0], "folder": folder, "user": getpass.getuser()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(ports=free_ports(2), **settings))
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    commands = [
        ["munged", "-F", "--force", f"--key-file={folder}/munge.key", f"--socket={munge['socket']}"]
        + [f"--{name}-file={munge[name]}" for name in ("pid", "log", "seed")],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    with ExitStack() as stack:
        for (name, *options), sign in zip(commands, (munge["socket"], None, None), strict=True):
            log = stack.enter_context(open(folder / f"{name}.said", "w"))
            daemon = subprocess.Popen([find(name), *options], env=environment, stdout=log, stderr=log)
            stack.callback(end, daemon)
            wait_until(lambda sign=sign: sign is None or sign.exists(), daemon, log.name)
        wait_until(lambda: "idle" in said(folder / "bin" / "sinfo", "--noheader", "--format=%T"), daemon, log.name)
        yield folder / "bin"
        said(folder / "bin" / "scancel", "--user", settings["user"])


def said(*command):
    "What a command prints."
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(ready, daemon, log, seconds=60):
    "Waits for a daemon to be of use. RuntimeError with the end of its log if it is not."
    deadline = time.monotonic() + seconds
    while not ready():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{Path(daemon.args[0]).name} does not start: {Path(log).read_text()[-300:]}")
        time.sleep(0.1)


def end(daemon):
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
