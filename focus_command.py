"""What the command ``focus`` starts with. Until the command line listens, Ctrl-C ends the process by itself, without a traceback.

It lies beside the package because importing any module of a package runs the package's own imports first, and those take most of the
first tenth of a second.
"""

import _signal  # type: ignore[import-not-found]  # what lies below `signal`, which imports more than it


def main() -> None:
    """Run the command line and end the process."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # else it is ignored, as in the background of a script
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from focus_framework.cli import main as command_line

    command_line()
