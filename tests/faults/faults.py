"""Faults that strike a run at random, and what has become of it when the same command has been given again.

Each function draws its fault from a generator, lets it strike, and gives a verdict: `same` (the result is what it would
have been), `said` (an error in words, and the remedy that it names gives that result), or what must never be: `other`
(a result that is silently another), `traceback`, `lost`, `hangs`, `stuck`.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import Disk, Done
from tests.faults.world import LOCAL, MINE, RECIPES, World, answer_of, figures_of

NEVER = ("other", "traceback", "lost", "hangs", "stuck")
TRIES = 3
ENDED = (0, 2, 75, 130)


@dataclass(frozen=True)
class Verdict:
    """Of one fault: `what` it was, what became of it, and the evidence."""

    what: str
    became: str
    evidence: str = ""


def signalled(world: World, rng: random.Random) -> Verdict:
    """A signal at any time; often some file is damaged before the command is given again."""
    recipe = rng.choice(list(RECIPES))
    number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    world.begin(warm=rng.choice((None, recipe)))
    after = rng.uniform(0, 1.1) * world.seconds[recipe]
    what = f"{recipe}: {number.name} after {after:.2f} s"
    started = world.commands.start("train", f"{recipe}.yaml")
    end = time.monotonic() + after
    while time.monotonic() < end and not started.is_over():
        time.sleep(0.005)
    started.send(number)
    done = started.wait()
    mine = _leave_mine(world, rng)
    if rng.random() < 0.6 and (damage := _damage(world.run if rng.random() < 0.7 else world.cache, rng)):
        what += f", then {damage}"
    return _again(world, recipe, what, done, mine, killed=number == signal.SIGKILL)


def full(world: World, rng: random.Random) -> Verdict:
    """A disk that is full from some write on, for the run folder or the cache."""
    recipe = rng.choice(list(RECIPES))
    world.begin(warm=rng.choice((None, None, recipe)))
    space = ("wcma", errno.ENOSPC)
    calls, number = rng.choice((space, space, ("s", errno.EIO), ("wcmans", errno.EROFS)))
    place = rng.choice((world.run, world.cache, world.folder))
    first = int(2 ** rng.uniform(0, 10)) - 1
    disk = Disk(place, calls, first, 10**9, number, world.folder / "counter")
    what = f"{recipe}: {errno.errorcode[number]} at call {first} ({calls}) below {place.name}"
    done = world.train(recipe, disk=disk)
    return _again(world, recipe, what, done, _leave_mine(world, rng))


def passing(world: World, rng: random.Random) -> Verdict:
    """Images that cannot be read for a moment."""
    recipe = rng.choice(LOCAL)
    world.begin()
    number = rng.choice((errno.EIO, errno.EMFILE, errno.ESTALE))
    first, count = rng.randrange(200), rng.choice((1, 1, 2, 5))
    disk = Disk(world.folder / "digits", "r", first, count, number, world.folder / "counter")
    done = world.train(recipe, "data.max_bad_share=0.2", disk=disk)
    what = f"{recipe}: {errno.errorcode[number]} at read {first} of images, {count} times"
    if done.code == 0 and "unreadable" in done.text:  # left out of this run with a word: not of the next one
        world.begin(warm=None)
        return Verdict(what, "said")
    if done.code == 0:
        return _compare(world, recipe, what, done, [], others=True)
    return _again(world, recipe, what, done, [])


def damaged(world: World, rng: random.Random) -> Verdict:
    """A file of a finished run is damaged, and the run is used."""
    recipe = rng.choice(list(RECIPES))
    world.begin(finished=recipe, warm=recipe)
    damage = _damage(world.run, rng)
    verb = rng.choice(("predict", "predict", "evaluate", "train", "report", "export", "fix"))
    what = f"{recipe}: finished, {damage}, then {verb}"
    if verb == "train":
        return _again(world, recipe, what, Done(0, ""), [])
    if verb in ("report", "export", "fix"):
        more = {"report": ("run",), "export": ("run", "--out", "exported"), "fix": ("run",)}[verb]
        done = world.commands.run(verb, *more)
        return _verdict_of_words(what, done) or Verdict(what, "same" if done.code == 0 else "said", done.text[-300:])
    done = world.predict() if verb == "predict" else world.evaluate()
    if (bad := _verdict_of_words(what, done)) is not None:
        return bad
    if done.code == 2:
        return Verdict(what, "said", done.text[-300:])
    found = answer_of(done) if verb == "predict" else figures_of(done)
    wanted = world.truths[recipe].predicted if verb == "predict" else world.evaluated[recipe]
    return Verdict(what, "same" if found == wanted else "other", f"{found} instead of {wanted}")


def cached(world: World, rng: random.Random) -> Verdict:
    """A file of the cache is damaged between two runs."""
    recipe = rng.choice(list(RECIPES))
    world.begin(warm=recipe)
    what = f"{recipe}: " + ", ".join(_damage(world.cache, rng) for _ in range(rng.choice((1, 1, 3))))
    return _again(world, recipe, what, Done(-9, ""), [], killed=True)


def importing(world: World, rng: random.Random) -> Verdict:
    """A signal while the process starts and imports, or just afterwards."""
    recipe, number = rng.choice(list(RECIPES)), rng.choice((signal.SIGTERM, signal.SIGINT))
    world.begin(warm=recipe)
    after = rng.uniform(0.3, 12)
    process = world.commands.process(["-m", "hf_finetune", "train", f"{recipe}.yaml"])
    time.sleep(after)
    process.send_signal(number)
    text, _ = process.communicate(timeout=300)
    done = Done(process.returncode, text)
    return _again(world, recipe, f"{recipe}: {number.name} after {after:.2f} s of a process of its own", done, [])


def ranks(world: World, rng: random.Random) -> Verdict:
    """One of two ranks is killed, or both get a signal; then one process goes on."""
    recipe = "full"
    world.begin(warm=rng.choice((None, recipe)))
    number = rng.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM))
    after = rng.uniform(0, 12) if number == signal.SIGSTOP else rng.uniform(5, 30)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "hf_finetune"]
    process = world.commands.process(
        [*launch, "train", f"{recipe}.yaml", "train.peer_timeout=3s"], {"ACCELERATE_USE_CPU": "true"}
    )
    if number == signal.SIGSTOP:  # before the two have met, one waits a quarter of an hour for the other
        _wait_for(world.run / "plan.json", process)
    time.sleep(after)
    children = sorted(int(pid) for pid in _children(process.pid))
    what = f"two ranks: {number.name} after {after:.1f} s"
    if children:
        victim = rng.choice(children)
        os.kill(victim, number)
    text, _ = process.communicate(timeout=300)
    for pid in children:
        if number == signal.SIGSTOP and Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
    ours = "\n".join(line for line in text.splitlines() if "elastic" not in line)
    if "hf_finetune/" in text and "Traceback" in text:
        return Verdict(what, "traceback", ours[-3000:])
    again = world.commands.process([*launch, "train", f"{recipe}.yaml"], {"ACCELERATE_USE_CPU": "true"})
    rest, _ = again.communicate(timeout=300)
    return _compare(world, recipe, what, Done(again.returncode, rest), [], others=True)


FAULTS: dict[Callable[[World, random.Random], Verdict], int] = {
    signalled: 40,
    full: 20,
    damaged: 18,
    cached: 10,
    passing: 4,
    importing: 5,
    ranks: 3,
}


def drawn(seed: int) -> Callable[[World, random.Random], Verdict]:
    """The kind of a seed's fault."""
    return random.Random(seed).choices(list(FAULTS), list(FAULTS.values()))[0]


def strike(world: World, seed: int) -> Verdict:
    """The fault of a seed."""
    return drawn(seed)(world, random.Random(f"fault {seed}"))


# ------------------------------------------------------------------------------------------------------------ verdicts


def _verdict_of_words(what: str, done: Done, *, killed: bool = False) -> Verdict | None:
    if done.has_traceback:
        return Verdict(what, "traceback", done.text[-3000:])
    if done.code is None:
        return Verdict(what, "hangs", done.text[-1000:])
    if done.code not in ENDED and not killed:
        return Verdict(what, "traceback", f"exit code {done.code}: {done.text[-1000:]}")
    return None


def _again(world: World, recipe: str, what: str, first: Done, mine: list[Path], *, killed: bool = False) -> Verdict:
    """The same command, until it ends well; then as the refusal says."""
    if (bad := _verdict_of_words(what, first, killed=killed)) is not None:
        return bad
    done = first
    for _ in range(TRIES):
        done = world.train(recipe)
        if (bad := _verdict_of_words(what, done)) is not None:
            return bad
        if done.code == 0:
            return _compare(world, recipe, what, Done(0, f"{first.text}\n{done.text}"), mine)
    said = done.text[-600:]
    world.begin(warm=None) if "--overwrite" not in done.text else None
    done = world.train(recipe, "--overwrite") if "--overwrite" in said else world.train(recipe)
    if done.code != 0:
        return Verdict(what, "stuck", f"{said}\n--- and then\n{done.text[-1500:]}")
    verdict = _compare(world, recipe, what, done, [])
    return Verdict(what, "said", said) if verdict.became == "same" else verdict


def _compare(world: World, recipe: str, what: str, done: Done, mine: list[Path], *, others: bool = False) -> Verdict:
    """`others`: another number of processes, or another order of reading, may round otherwise."""
    if (bad := _verdict_of_words(what, done)) is not None:
        return bad
    if done.code != 0:
        return Verdict(what, "stuck", done.text[-1500:])
    if gone := [path for path in mine if not any(world.folder.rglob(path.name))]:
        return Verdict(what, "lost", f"a person's {gone[0]}")
    try:
        found = world.truth()
    except Exception as error:  # noqa: BLE001 - whatever it is, the result cannot be used
        return Verdict(what, "other", f"{done.text[-1500:]}\n{error!r}"[-3000:])
    wanted = world.truths[recipe]
    if found == wanted:
        return Verdict(what, "same")
    # The best checkpoint, instead of which another one counts then; states that the cached rung would have trained on;
    # a table of a run that was finished.
    if any(
        words in done.text
        for words in ("is lost: ", "features are kept in memory, since", "not kept.", "is not as the run")
    ):
        return Verdict(what, "said", done.text[-600:])
    if others and abs(found.test["accuracy"] - wanted.test["accuracy"]) < 0.15:
        return Verdict(what, "same")
    return Verdict(what, "other", f"{found}\ninstead of\n{wanted}\n{done.text[-1500:]}")


def _leave_mine(world: World, rng: random.Random) -> list[Path]:
    """A person's files among the run's."""
    found = []
    for number, folder in enumerate((world.run, world.run / "adapter", world.cache)):
        if folder.is_dir() and (folder / "recipe.yaml").exists() == (folder.name == "run") and rng.random() < 0.3:
            path = folder / f"{number}-{MINE}"
            path.write_text("a person's own")
            found.append(path)
    return found


def _damage(folder: Path, rng: random.Random) -> str:
    """Damage one file below a folder; what was done, or nothing where there is none."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock" and MINE not in path.name
    )
    if not files:
        return ""
    path = rng.choice(files)
    content, way = bytearray(path.read_bytes()), rng.choice(("flip", "flip", "flip", "cut", "empty", "zero", "delete"))
    at = rng.randrange(len(content)) if content else 0
    if way == "delete" or not content:
        path.unlink()
    elif way == "flip":
        content[at] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif way == "zero":
        content[at : at + 4096] = bytes(len(content[at : at + 4096]))
        path.write_bytes(content)
    else:
        path.write_bytes(content[: at if way == "cut" else 0])
    return f"{way} {path.relative_to(folder.parent)} at {at}"


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.05)


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
