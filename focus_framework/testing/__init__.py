"""Every promise that the interfaces of plugins make, as a function that tries it: for the tests of a plugin, and ``focus plugins check``.

A plugin's own test is three lines; pytest gets a test for each promise of the plugin's kind::

    from focus_framework.testing import each_promise

    @each_promise("puddles")
    def test_promise(promise):
        promise.keep()
"""

from .checking import Trial, check, each_promise, subjects
from .promise import Broken, NotTried, Outcome, Promise, promises
from .subject import Subject

__all__ = ["Broken", "NotTried", "Outcome", "Promise", "Subject", "Trial", "check", "each_promise", "promises", "subjects"]
