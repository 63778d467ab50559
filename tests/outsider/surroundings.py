"""Hostile surroundings: missing variables, closed streams, folders that vanish, disks that are full or cannot be written, signals.

Each is a shell script: ``$FOCUS`` is the program in a fresh interpreter, ``$IN`` the good inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from .case import Case

GROUP = "surroundings"
OK, WRONG, MAY, STOPPED = frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2}), frozenset({130})

LIGHT = (
    "plugins list",
    "prompts show shadow",
    "data list",
    "train --task-plugin shadow --show-config",
    "plugins list --json",
    "nonsense",
    "--help",
    "--version",
)
"""Calls that need no torch: of these every one is tried."""
TRAIN = "train --task-plugin shadow --config $IN/tiny.toml"
PREDICT = "predict $IN/one.png --checkpoint $IN/checkpoint.safetensors"
BEGUN = "until [ -s run/metrics.jsonl ]; do sleep 0.1; done"
"""Waits until a training has done its first steps, however slow the machine is."""
TMPFS = "unshare -m bash -c 'mount -t tmpfs -o {options} none {where} && {then}'"


def cases() -> Iterator[Case]:
    yield from _streams()
    yield from _environment()
    yield from _signals()
    yield from _folders()


def _case(
    what: str,
    script: str,
    *names: str,
    exits: frozenset[int] = OK,
    light: bool = True,
    leaves: tuple[str, ...] = ("*", "*/*", "*/*/*", "*/*/*/*"),
    limit: float = 0,
) -> Case:
    return Case(GROUP, what, (), names, exits, leaves=leaves, limit=limit or (60 if light else 180), script=script, heavy=not light)


def _streams() -> Iterator[Case]:
    for call in LIGHT:
        exits = frozenset({2}) if call == "nonsense" else OK
        for what, tail in {
            "stdin is closed": "<&-",
            "stderr is closed": "2>&-",
            "stdout is closed": ">&-",
            "every stream is closed": "<&- >&- 2>&-",
        }.items():
            yield _case(what, f"$FOCUS {call} {tail}", exits=MAY if ">&-" in tail and call != "nonsense" else exits)
        yield _case("stdout is full", f"$FOCUS {call} > /dev/full", exits=frozenset({2}) if call == "nonsense" else frozenset({1}))
        yield _case(
            "nobody reads stdout", f"$FOCUS {call} | true; exit ${{PIPESTATUS[0]}}", exits=frozenset({2}) if call == "nonsense" else MAY
        )
        yield _case("stderr is full", f"$FOCUS {call} 2> /dev/full", exits=exits)
    for tail in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2> /dev/full"):
        yield _case("a stream is closed while predicting", f"$FOCUS {PREDICT} {tail}", light=False)
        yield _case("a stream is closed while training", f"$FOCUS {TRAIN} --out run --json {tail}", exits=MAY, light=False)


def _environment() -> Iterator[Case]:
    for call in LIGHT:
        exits = frozenset({2}) if call == "nonsense" else OK
        yield _case("HOME is not set", f"env -u HOME $FOCUS {call}", exits=exits)
        yield _case("HOME is no folder", f"HOME=/dev/null $FOCUS {call}", exits=exits)
        yield _case("nothing is set", f"env -i $FOCUS {call}", exits=exits)
        yield _case("the language is C", f"LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $FOCUS {call}", exits=exits)
        yield _case("stdout takes ASCII alone", f"PYTHONIOENCODING=ascii $FOCUS {call}", exits=exits)
        yield _case("the working folder was deleted", f"mkdir gone; cd gone; rmdir ../gone; $FOCUS {call}", exits=exits)
        yield _case("the terminal has one column", f"COLUMNS=1 LINES=1 $FOCUS {call}", exits=exits)
    yield _case(
        "the language is C",
        "cp $IN/one.png $IN/Bäume.png; LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $FOCUS predict $IN/Bäume.png --checkpoint $IN/checkpoint.safetensors --json",
        light=False,
    )
    for call in (
        "train --task-plugin shadow --config $IN/tiny.toml --data $IN/Bäume --out run && $FOCUS train --resume run --steps 2",
        "evaluate --checkpoint $IN/checkpoint.safetensors --data $IN/Bäume --report page.html",
        "explain $IN/Bäume/images --checkpoint $IN/checkpoint.safetensors --device cpu",
        "data check $IN/Bäume",
    ):
        names = (
            "cp -r $IN/pairs $IN/Bäume; mv $IN/Bäume/images/0.png $IN/Bäume/images/ä.png; mv $IN/Bäume/masks/0.png $IN/Bäume/masks/ä.png"
        )
        yield _case("the language is C", f"export LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0; {names}; $FOCUS {call}", light=False)
    yield _case(
        "a file's name is no text",
        "cp $IN/one.png $IN/$'a\\xff\\nb.png'; $FOCUS predict $IN/a*.png --checkpoint $IN/checkpoint.safetensors --json",
        light=False,
    )
    yield _case(
        "a file's name is no text",
        f"cp -r $IN/pairs $IN/$'a\\xff'; $FOCUS {TRAIN} --data $IN/$'a\\xff' --out run && $FOCUS train --resume run --steps 2",
        light=False,
    )
    yield _case("the working folder was deleted", f"mkdir gone; cd gone; rmdir ../gone; $FOCUS {TRAIN} --out run", exits=WRONG, light=False)
    yield _case("HOME is not set", f"env -u HOME $FOCUS {PREDICT}", light=False)
    yield _case("nothing is set", f"env -i $FOCUS {TRAIN} --out run", light=False)
    for variable, value in {"FOCUS_OPS": "nonsense", "FOCUS_MAX_PIXELS": "abc", "OMP_NUM_THREADS": "abc", "WORLD_SIZE": "abc"}.items():
        yield _case("a variable has a wrong value", f"{variable}={value} $FOCUS {PREDICT}", *([variable] if variable.startswith("FOCUS") else []),
                    exits=WRONG if variable.startswith("FOCUS") else MAY, light=False)  # fmt: skip
    yield _case("a variable has a wrong value", "FOCUS_MAX_PIXELS=abc $FOCUS plugins list", exits=MAY)
    yield _case("a variable has a wrong value", "WORLD_SIZE=abc $FOCUS " + TRAIN, "WORLD_SIZE", exits=WRONG, light=False)


def _signals() -> Iterator[Case]:
    for seconds in ("0.03", "0.05", "0.07", "0.1", "0.2"):
        for call in ("plugins list", TRAIN + " --out run", PREDICT):
            # Before Python listens the signal ends the process by itself, which timeout shows as 130 too.
            yield _case("interrupted at the start", f"timeout --preserve-status -s INT {seconds} $FOCUS {call}; code=$?; exit $code",
                        exits=frozenset({0, 130, 1}) if call == "plugins list" else STOPPED)  # fmt: skip
    for seconds in ("1", "2", "3", "5"):
        yield _case(
            "interrupted later",
            f"timeout --preserve-status -s INT {seconds} $FOCUS {TRAIN} --steps 100000 --out run",
            exits=STOPPED,
            light=False,
        )


def _folders() -> Iterator[Case]:
    tiny = "size=256k"
    yield _case(
        "the disk is full",
        "mkdir run; " + TMPFS.format(options=tiny, where="run", then=f"$FOCUS {TRAIN} --out run/here"),
        "space",
        "full",
        exits=WRONG,
        light=False,
    )
    yield _case(
        "the disk is full",
        "mkdir out; "
        + TMPFS.format(options="size=4k", where="out", then="$FOCUS data generate shadow --count 50 --size 128 --out out/here"),
        "space",
        "full",
        exits=WRONG,
    )
    yield _case(
        "the disk is full",
        "mkdir out; "
        + TMPFS.format(
            options="size=4k",
            where="out",
            then="$FOCUS predict $IN/pairs/images --checkpoint $IN/checkpoint.safetensors --save overlay --out out/here",
        ),
        "space",
        "full",
        exits=WRONG,
        light=False,
    )
    yield _case(
        "the disk is full",
        "mkdir out; " + TMPFS.format(options="size=4k", where="out", then="$FOCUS data preview $IN/pairs --out out/sheet.png"),
        "space",
        "full",
        exits=WRONG,
        light=False,
    )
    yield _case(
        "the folder is read-only",
        "mkdir run; " + TMPFS.format(options="ro", where="run", then=f"$FOCUS {TRAIN} --out run/here"),
        "read-only",
        exits=WRONG,
        light=False,
    )
    yield _case(
        "the folder is read-only",
        "mkdir out; " + TMPFS.format(options="ro", where="out", then="$FOCUS data generate shadow --count 1 --out out/here"),
        "read-only",
        exits=WRONG,
    )
    yield _case(
        "the folder is read-only",
        "mkdir out; " + TMPFS.format(options="ro", where="out", then=f"$FOCUS {PREDICT} --out out"),
        "read-only",
        exits=WRONG,
        light=False,
    )
    yield _case(
        "the folder is read-only",
        "mkdir out; " + TMPFS.format(options="ro", where="out", then=f"cd out && $FOCUS {TRAIN}"),
        "read-only",
        exits=WRONG,
        light=False,
    )
    two = f"$FOCUS {TRAIN} --steps 400 --out run > /dev/null 2>&1 & {BEGUN}; $FOCUS {TRAIN} --out run; code=$?; kill %1; wait; exit $code"
    yield _case("two runs in one folder", two, "run", exits=WRONG, light=False)
    gone = f"({BEGUN}; rm -r $IN/pairs) & $FOCUS {TRAIN} --data $IN/pairs --steps 100000 --out run"
    yield _case("the data are deleted while training", gone, ".png", exits=WRONG, light=False)
    folder = f"({BEGUN}; rm -r run) & $FOCUS {TRAIN} --steps 100000 --set training.checkpoint_every=200 --out run"
    yield _case("the run's folder is deleted while training", folder, "run", exits=MAY, light=False)
    yield _case("a start that fails", f"$FOCUS {TRAIN} --batch-size 99999 --data nowhere", "nowhere", exits=WRONG, light=False, leaves=())
