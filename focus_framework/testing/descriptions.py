"""Promises of every plugin: what it says of itself, and that saying it costs nothing."""

from __future__ import annotations

import inspect

from ..plugin.calls import calling
from ..plugin.interfaces import Backbone, Builder, Task, resolve
from .promise import Broken, promise
from .subject import CALLED, Subject

LONGEST_TITLE = 100


@promise(first=True)
def the_description_is_whole(subject: Subject) -> None:
    """The hook yields a description without a wrong field, and its title is one short line."""
    if subject.entry.description is None:
        raise Broken(subject.entry.error)
    title = subject.entry.description.title
    if not title.strip() or len(title.splitlines()) != 1 or len(title) > LONGEST_TITLE:
        raise Broken(f"the title is {title!r:.60}; it must be one line of at most {LONGEST_TITLE} characters")


@promise()
def listing_imports_no_torch(subject: Subject) -> str:
    """Importing the plugin and asking its hooks loads neither torch nor a library of images, in a process of its own."""
    seen = subject.elsewhere("list")
    if seen["heavy"]:
        raise Broken(f"listing it imports {', '.join(seen['heavy'])}; import inside the function that needs it")
    return f"{seen['seconds']:.2f} s"


@promise(first=True)
def what_makes_things_can_be_imported(subject: Subject) -> None:
    """Every function that the description names as ``"module:function"`` is there."""
    for field, maker in _makers(subject).items():
        if maker is not None:
            with calling(subject.title, f"the module of {field}"):
                found = resolve(maker)
            if not callable(found):
                raise Broken(f"{field} leads to {type(found).__name__}, it must lead to a function")


def _makers(subject: Subject) -> dict[str, Builder[object] | None]:
    described = subject.entry.get()
    if isinstance(described, Task):
        return {"practice": described.practice, "compose": described.compose, "render": described.render}
    return {"build": described.build} | ({"claims": described.claims} if isinstance(described, Backbone) else {})


@promise("backbone", "enhancer", "refiner", "conditioner", first=True)
def build_takes_what_it_is_called_with(subject: Subject) -> None:
    """``build`` can be called as the interface says, and everything else that it takes is an option with a default."""
    given, named = CALLED[subject.entry.kind]
    try:
        inspect.signature(subject.builder).bind(*given, **named)
    except TypeError as error:
        raise Broken(f"build{inspect.signature(subject.builder)} cannot be called as the interface says: {error}") from None
    subject.checked(subject.options)
