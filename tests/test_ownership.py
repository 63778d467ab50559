"""Whose a place to write is."""

from __future__ import annotations

from pathlib import Path

import pytest

from focus_framework.errors import ConfigError, DataError
from focus_framework.files.ownership import MARK, claimed, refuse_to_replace


def test_a_folder_is_taken_where_it_is_new_empty_or_ours(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed(tmp_path / "deep" / "out", "predictions") as out:
            (out / "a.png").touch()
    with pytest.raises(ConfigError, match="not a folder of a run"), claimed(out, "a run"):
        pass
    assert (out / MARK).read_text() == "predictions\n"


def test_somebodys_folder_is_refused_and_taken_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").touch()
    with pytest.raises(ConfigError, match="--overwrite"), claimed(tmp_path, "predictions"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.txt"]
    with claimed(tmp_path, "predictions", overwrite=True):
        pass
    assert (tmp_path / "theirs.txt").exists()


def test_an_input_is_never_an_output(tmp_path: Path) -> None:
    images, link = tmp_path / "images", tmp_path / "link"
    link.symlink_to(images)
    with pytest.raises(ConfigError, match="read by this very call"), claimed(link, "x", inputs=[images], overwrite=True):
        pass


def test_what_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "runs" / "new", "a run"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"), claimed(tmp_path / "file" / "below", "a run"):
        pass


def test_a_report_replaces_a_report_of_its_kind_alone(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    rule = {"kind": "a table", "suffixes": [".csv"], "begins": b"a,b"}
    refuse_to_replace(file, **rule)
    file.write_text("a,b\n1,2\n")
    refuse_to_replace(file, **rule)
    file.write_text("somebody's\n")
    with pytest.raises(ConfigError, match=r"table\.csv exists and is not a table of ours"):
        refuse_to_replace(file, **rule)
    with pytest.raises(ConfigError, match="ends in"):
        refuse_to_replace(tmp_path / "mask.png", **rule)
