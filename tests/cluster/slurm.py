"""A Slurm of one's own on this machine: one controller and two node daemons, with all of their files in one folder.

`python tests/cluster/slurm.py start FOLDER` and `… stop FOLDER` (make cluster, make cluster-stop). Slurm and munge are
Debian's packages slurm-wlm and munge. Nothing of the machine's own configuration is read or changed.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NODES = ("node1", "node2")
DAEMONS = ("slurmctld", *NODES, "munged")
# A job that is queued again waits for its old credential to expire: two minutes by default (cred_expire).
CONF = """ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
ReturnToService=2
KillWait=30
SchedulerParameters=batch_sched_delay=1,sched_interval=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def start(folder: Path) -> None:
    """Configure and start the daemons, and wait until both nodes are idle. Raises SystemExit where they are not."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"Slurm is not installed: {', '.join(missing)} missing (Debian: slurm-wlm, munge).")
    stop(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("munge", "state", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    ports = _free_ports(1 + len(NODES))
    host = socket.gethostname().split(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN"
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    conf = CONF.format(host=host, controller=ports[0], user=getpass.getuser(), folder=folder, nodes=nodes)
    (folder / "slurm.conf").write_text(conf, encoding="utf-8")
    munge = [f"--{name}-file={folder / 'munge' / name}" for name in ("key", "pid", "log", "seed")]
    _run("munged", "--force", f"--socket={folder / 'munge' / 'socket'}", *munge)
    _run("slurmctld", "-f", str(folder / "slurm.conf"))
    for node in NODES:
        _run("slurmd", "-N", node, "-f", str(folder / "slurm.conf"))
    until = time.monotonic() + 60
    while (states := _states(folder)) != ["idle"] * len(NODES):
        if time.monotonic() > until:
            raise SystemExit(f"The nodes do not come up ({states}); see {folder}/*.log.")
        time.sleep(0.5)
    print(f"Slurm runs: export SLURM_CONF={folder / 'slurm.conf'}")


def stop(folder: Path) -> None:
    """End what `start` has started there, and whatever a job of it left."""
    if (folder / "slurm.conf").is_file() and _states(folder):
        subprocess.run(["scancel", "--user", getpass.getuser()], env=environment(folder), check=False, timeout=60)
        until = time.monotonic() + 40
        while _said(folder, "squeue", "--noheader") and time.monotonic() < until:
            time.sleep(0.5)
    for name in DAEMONS:
        file = folder / "munge" / "pid" if name == "munged" else folder / f"{name}.pid"
        if file.is_file():
            _end(int(file.read_text()))


def environment(folder: Path) -> dict[str, str]:
    """This process's, for Slurm's commands."""
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}


def _end(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
            for _ in range(100):
                time.sleep(0.1)
                os.kill(pid, 0)
        except ProcessLookupError:
            return


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr or done.stdout}")


def _said(folder: Path, *command: str) -> str:
    return subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, check=False, timeout=60
    ).stdout.strip()


def _states(folder: Path) -> list[str]:
    return _said(folder, "sinfo", "--noheader", "--Node", "--format=%T").split()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]).resolve())
