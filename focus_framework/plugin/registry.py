"""Finding plugins: entry points loaded one by one, each checked, each with its origin; one broken plugin never stops the rest."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast, overload

import pluggy

from ..errors import ConfigError, FocusError, PluginError, did_you_mean
from ..files.reading import spelled_here
from . import hookspecs
from .calls import calling, reason
from .hookspecs import PROJECT
from .interfaces import Backbone, Checkpoint, Conditioner, Dataset, Description, Enhancer, Prompts, Refiner, Task, resolve, wrong_in

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["task", "backbone", "enhancer", "refiner", "conditioner"]

KINDS: dict[Kind, type] = {
    "task": Task,
    "backbone": Backbone,
    "enhancer": Enhancer,
    "refiner": Refiner,
    "conditioner": Conditioner,
}
OWN_DISTRIBUTION = "focus-framework"


@dataclass(frozen=True)
class Entry:
    """One plugin, or what is known of one that cannot be used."""

    kind: Kind
    name: str
    origin: str
    """Where it was declared: an entry point's value, or a file."""
    distribution: str
    version: str
    description: Description | None
    error: str = ""

    @property
    def reference(self) -> str:
        """What finds it again from any folder: its name or, of a task that is not packaged, file or module."""
        path, attribute = split_reference(self.origin)
        if self.distribution != self.origin:
            return self.name
        return f"{Path(path).resolve()}{f':{attribute}' * bool(attribute)}" if path.endswith(".py") else self.origin

    def get(self) -> Any:
        """The description; raises `PluginError` with the reason where the plugin is broken."""
        if self.description is None:
            raise PluginError(f"{self.kind} {self.name} (from {self.distribution}, {self.origin}) is broken: {self.error}")
        return self.description

    def as_json(self) -> dict[str, Any]:
        """The row that ``focus plugins list --json`` prints."""
        return {
            "name": self.name,
            "title": self.description.title if self.description else "",
            "distribution": self.distribution,
            "version": self.version,
            "status": "ok" if self.description else "broken",
            "error": self.error or None,
        }


class Registry:
    """All plugins of this environment. `load` reads the entry points; all kinds are loaded in the same way."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._tried: list[Entry] = []
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)

    def load(self) -> None:
        """Every entry point of the group. The framework's own come first, so that a name of theirs cannot be taken over."""
        found = sorted(entry_points_of(PROJECT), key=lambda row: (row[0] != OWN_DISTRIBUTION, row[0], row[2].name))
        for distribution, version, point in found:
            self._load_entry_point(point, distribution, version)

    def _load_entry_point(self, point: EntryPoint, distribution: str, version: str) -> None:
        try:
            with calling(f"plugin {point.name}", "its module"), _without_warnings():  # whatever it does at import must not stop the others
                module = point.load()
        except PluginError as error:
            kinds = _intended_kinds(point.value.partition(":")[0].strip()) or ["task"]
            for kind in kinds:
                self.entries.append(Entry(kind, point.name, point.value, distribution, version, None, _cause(error)))
            return
        self.add(module, point.name, point.value, distribution, version)

    def add(self, module: object, name: str, origin: str, distribution: str, version: str) -> list[Entry]:
        """Ask a module's hooks what it offers and keep it, good or broken; returns the new entries."""
        new: list[Entry] = []

        def keep(kind: Kind, called: str, description: Description | None, error: str = "") -> None:
            new.append(Entry(kind, called, origin, distribution, version, description, error))
            self.entries.append(new[-1])

        key = f"{distribution}: {name} = {origin}"
        try:
            with calling(f"plugin {name}", "a hook"):
                self._manager.register(module, key)
        except FocusError as error:  # a hook of the wrong signature, the same module twice, whatever its attributes raise
            if self._manager.has_plugin(key):
                self._manager.unregister(name=key)
            for kind in [kind for hook, kind in _hooks().items() if hasattr(module, hook)] or ["task"]:
                keep(kind, name, None, _cause(error))
            return new
        callers = self._manager.get_hookcallers(module) or []
        if not callers:
            keep("task", name, None, f"no function marked @hookimpl; a plugin has one of {', '.join(_hooks())}")
        for caller in callers:
            hook = caller.name
            if not caller.has_spec():  # what `check_pending` raises for, told hook by hook so that the module's other hooks still count
                nearest = difflib.get_close_matches(hook, _hooks(), n=1, cutoff=0)[0]
                keep(_hooks()[nearest], name, None, f"there is no hook {hook!r}; {did_you_mean(hook, _hooks())}")
                continue
            kind = _hooks()[hook]
            try:
                with calling(f"plugin {name}", f"{hook}()"), _without_warnings():
                    descriptions = self._offered(module, hook, KINDS[kind])
            except FocusError as error:
                keep(kind, name, None, _cause(error))
                continue
            for description in descriptions:
                if problem := _problem(description, kind, hook):
                    keep(kind, name, None, problem)
                elif taken := self._named(kind, description.name):
                    refusal = (
                        f"the name {description.name!r} is taken by distribution {taken.distribution}; "
                        f"this one, from distribution {distribution}, is not used. Rename it, or uninstall one of them"
                    )
                    keep(kind, description.name, None, refusal)
                else:
                    keep(kind, description.name, description)
        return new

    def _offered(self, module: object, hook: str, described: type) -> list[Any]:
        """What one module's hook yields: pluggy calls it alone, since one that raises would end a call of all."""
        others = [plugin for plugin in self._manager.get_plugins() if plugin is not module]
        results = self._manager.subset_hook_caller(hook, others)()  # of which pluggy leaves out None
        if not results:
            raise PluginError(f"{hook}() returned None; it must yield {described.__name__}(...) descriptions")
        (offered,) = results
        return [offered] if isinstance(offered, described) else list(offered)

    def _named(self, kind: Kind, name: str) -> Entry | None:
        return next((e for e in self.entries if e.kind == kind and e.name == name and e.description), None)

    def of_kind(self, kind: Kind) -> list[Entry]:
        """All entries of a kind, broken ones too, in the order in which they were found."""
        return [entry for entry in self.entries if entry.kind == kind]

    def find(self, kind: Kind, name: str) -> Entry:
        """The entry of that name; for a backbone, else the family that claims the name. Raises `PluginError`."""
        entry = self._named(kind, name) or next((e for e in self.of_kind(kind) if e.name == name), None)
        if entry is None and kind == "backbone":
            entry = next((e for e in self.of_kind(kind) if _claims(e.description, name)), None)
        if entry is None:
            known = [e.name for e in self.of_kind(kind)]
            raise PluginError(f"there is no {kind} {name!r}; {did_you_mean(name, known)} (focus plugins list shows all)")
        return entry

    @overload
    def get(self, kind: Literal["task"], name: str) -> Task: ...
    @overload
    def get(self, kind: Literal["backbone"], name: str) -> Backbone: ...
    @overload
    def get(self, kind: Literal["enhancer"], name: str) -> Enhancer: ...
    @overload
    def get(self, kind: Literal["refiner"], name: str) -> Refiner: ...
    @overload
    def get(self, kind: Literal["conditioner"], name: str) -> Conditioner: ...
    def get(self, kind: Kind, name: str) -> Description:
        """The description of that name. Raises `PluginError` where it is unknown (with the nearest names) or broken."""
        return cast(Description, self.find(kind, name).get())

    def find_task(self, reference: str) -> Entry:
        """A task by its name, ``module:attribute``, or the path of a Python file (``file.py``, ``file.py:attribute``)."""
        path, attribute = split_reference(reference)
        if path.endswith(".py"):
            return self._task_from(_import_file(Path(spelled_here(path))), attribute, reference)
        if ":" in reference:
            try:
                with calling(f"task plugin {reference}", "its module"):
                    module = importlib.import_module(path)
            except FocusError as error:
                hint = " (is it installed, or its folder on PYTHONPATH?)" if isinstance(error.__cause__, ModuleNotFoundError) else ""
                raise PluginError(f"cannot import {path!r} of task plugin {reference!r}: {_cause(error)}{hint}") from error
            return self._task_from(module, attribute, reference)
        return self.find("task", reference)

    def find_tasks(self, references: str) -> tuple[Entry, ...]:
        """Several tasks by a comma between them; ``all``: every one that works. Raises as `find_task`, and `ConfigError` for one named
        twice."""
        if references == "all" and self._named("task", "all") is None:
            return tuple(entry for entry in self.of_kind("task") if entry.description)
        entries = [self.find_task(reference) for reference in split_tasks(references)]
        names = [entry.name for entry in entries]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"task {twice} is named twice in {references!r}; name each once")
        return tuple(entries)

    def _task_from(self, module: ModuleType, attribute: str, reference: str) -> Entry:
        """A task that is tried before it is packaged; it may have the name of an installed one."""
        if attribute:
            if not hasattr(module, attribute):
                names = [n for n, value in vars(module).items() if isinstance(value, Task)]
                raise PluginError(f"{reference}: no attribute {attribute!r}; {did_you_mean(attribute, names)}")
            offered = getattr(module, attribute)
            with calling(f"task plugin {reference}", f"{attribute}()"):
                tasks = [offered] if isinstance(offered, Task) else [offered()] if callable(offered) else [offered]
                if inspect.isgenerator(tasks[0]) or isinstance(tasks[0], list | tuple):
                    tasks = list(tasks[0])
        else:
            tasks = [entry.get() for entry in _offered_by(module, reference) if entry.kind == "task"]
        if len(tasks) != 1 or not isinstance(tasks[0], Task):
            what = f"{len(tasks)} tasks" if len(tasks) != 1 else type(tasks[0]).__name__
            raise PluginError(f"{reference} gives {what}, one Task is needed; name it: {reference}:ATTRIBUTE")
        self._tried.append(Entry("task", tasks[0].name, reference, reference, "", tasks[0]))
        return self._tried[-1]

    def reference_of(self, task: Task) -> str | None:
        """What finds a task again in another process, whatever its file has that no pickle takes; none for one that was made in Python."""
        found = (entry for entry in [*self._tried, *self.of_kind("task")] if entry.description is task)
        return next((entry.reference for entry in found), None)


def entries_of_file(path: Path) -> list[Entry]:
    """Everything that a Python file offers, of any kind, good or broken, before it is packaged. Raises `PluginError` where the file cannot
    be imported, or has no hook."""
    return _offered_by(_import_file(path), str(path))


def _offered_by(module: ModuleType, reference: str) -> list[Entry]:
    fresh = Registry()  # its names clash with nobody's
    return fresh.add(module, reference, reference, reference, "")


def split_reference(reference: str) -> tuple[str, str]:
    """The parts of ``file.py:attribute`` and of ``module:attribute``; the second may be missing. The colon of a drive (``C:\\``) parts
    nothing."""
    path, attribute = re.fullmatch(r"(?s)((?:[A-Za-z]:[\\/])?[^:]*):?(.*)", reference).groups()  # type: ignore[union-attr]  # matches all
    return path, attribute


def split_tasks(references: str) -> list[str]:
    """The names in what ``--task-plugin`` was given: one, or several with commas between them. Raises `ConfigError` for an empty one."""
    if Path(references).is_file():
        return [references]  # whatever its name has
    names = [name.strip() for name in references.split(",")]
    if not all(names):
        raise ConfigError(f"tasks {references!r}: a name is missing beside a comma")
    return names


@functools.cache
def registry() -> Registry:
    """The plugins of this environment, read once."""
    loaded = Registry()
    loaded.load()
    return loaded


@functools.cache
def _hooks() -> dict[str, Kind]:
    return {f"focus_{kind}s": kind for kind in KINDS}


def entry_points_of(group: str) -> list[tuple[str, str, EntryPoint]]:
    """Distribution, version and entry point of everything in a group. Of a distribution found twice the first on the path counts, as
    everywhere in Python; one whose metadata cannot be read is passed over with a warning."""
    found: dict[str, list[tuple[str, str, EntryPoint]]] = {}
    for dist in distributions():
        try:
            name, version, points = dist.name, dist.version, dist.entry_points.select(group=group)
        except Exception as error:  # leftovers of an installation that went wrong: no METADATA, malformed entry_points.txt
            logger.warning("a distribution in %s cannot be read: %s", dist.locate_file(""), reason(error))
            continue
        if name:
            rows = [(name, version, point) for point in points]
            found.setdefault(name.lower().replace("_", "-"), rows)
    return [row for rows in found.values() for row in rows]


def _problem(description: object, kind: Kind, hook: str) -> str:
    """What is wrong with something that a hook gave; empty where nothing is."""
    if not isinstance(description, KINDS[kind]):
        return f"{hook}() must yield {KINDS[kind].__name__}(...) descriptions, it gave {type(description).__name__}"
    named = cast(Description, description)
    if not isinstance(named.name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", named.name) or named.name == "none":
        return f"{named.name!r} is no name for a {kind}; use letters, digits, '-', '_' and '.', and not the word none"
    if not isinstance(named.title, str):
        return f"the title of {named.name} is {type(named.title).__name__}, it must be one line of text"
    for field, (value, needs) in _fields(named).items():
        if needs:
            return f"{field} of {kind} {named.name} is {value!r:.60}, it must be {needs}"
    return ""


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What a plugin tells its developers while it is loaded, and filters that it sets for the whole process, are for none of the users."""
    with warnings.catch_warnings(record=True) as found:
        yield
    for warning in found:
        logger.debug("a plugin warns while it is loaded: %s", warning.message)


def _fields(described: Description) -> dict[str, tuple[object, str]]:
    """Every field that code of others fills with its value, and what it must be where it is something else."""
    if not isinstance(described, Task):
        builders = {"build": described.build, **({"claims": described.claims} if isinstance(described, Backbone) else {})}
        return {name: (value, _no_builder(value, optional=name == "claims")) for name, value in builders.items()}
    fields: dict[str, tuple[object, str]] = {
        name: (value, _no_builder(value, optional=True))
        for name, value in {"practice": described.practice, "compose": described.compose, "render": described.render}.items()
    }
    for name, given, kind in (("datasets", described.datasets, Dataset), ("checkpoints", described.checkpoints, Checkpoint)):
        right = isinstance(given, list | tuple) and all(isinstance(one, kind) for one in given)
        fields[name] = given, "" if right else f"a list of {kind.__name__}(...)"
    if not fields["checkpoints"][1] and (flaw := next(filter(None, map(wrong_in, described.checkpoints)), "")):
        fields["checkpoints"] = described.checkpoints, f"a list of right ones: {flaw}"
    other, settings = described.other_prompts, described.defaults
    fields["other_prompts"] = (
        other,
        "" if isinstance(other, Mapping) and all(map(_is_prompts, other.values())) else "names with Prompts(...)",
    )
    named = isinstance(settings, Mapping) and all(isinstance(key, str) for key in settings)
    fields["defaults"] = settings, "" if named else "values by the dotted names of settings"
    return fields


def _no_builder(value: object, *, optional: bool) -> str:
    right = callable(value) or (isinstance(value, str) and ":" in value) or (optional and value is None)
    return "" if right else "a function, or module:function as a text"


def _is_prompts(value: object) -> bool:
    return isinstance(value, Prompts) or (isinstance(value, list | tuple) and all(isinstance(one, Prompts) for one in value))


def _intended_kinds(module: str) -> list[Kind]:
    """The kinds that a module which cannot be imported would have offered, read from its source without running it."""
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(spec.origin).read_bytes()) if spec and spec.origin else ast.parse("")
    except Exception:  # finding a module imports the packages around it, which may be what failed before
        return []
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return [kind for hook, kind in _hooks().items() if hook in names]


def _claims(description: Description | None, name: str) -> bool:
    if not isinstance(description, Backbone) or description.claims is None:
        return False
    try:
        with calling(f"backbone {description.name}", "claims()"):
            return bool(resolve(description.claims)(name))
    except FocusError as error:  # one broken family must not stop the others from being asked
        logger.warning("backbone family %s cannot say whether %s is one of its own: %s", description.name, name, _cause(error))
        return False


def _cause(error: FocusError) -> str:
    """What a plugin raised, without the name of the plugin, which stands beside it."""
    return reason(error.__cause__ if isinstance(error, PluginError) and error.__cause__ else error)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"plugin file {path} does not exist")
    name = f"focus_plugin_{path.stem.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} cannot be read as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling of what the file defines look it up there
    try:
        with calling(f"plugin {path}", "its file"):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, FocusError):
            raise PluginError(f"plugin {path} cannot be imported: {_cause(error)}") from error
        raise
    return module
