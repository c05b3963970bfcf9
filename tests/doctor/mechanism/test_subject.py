"""A mechanism is found by name, by class or in a file, and built with its options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from attngraft._core.errors import OptionError, UnknownNameError
from attngraft.doctor import subject

MODULES = "from torch import nn\nfrom torch.nn import Conv2d\nclass Other: pass\nclass Mina(nn.Module): pass\n"


class TestSubject:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "neighbour_of_mine.py").write_text("GAIN = 2\n")
        (tmp_path / "mechanism_of_mine.py").write_text(
            "from neighbour_of_mine import GAIN\nfrom torch import nn\n"
            "class Mine(nn.Module):\n    def __init__(self, channels, *, heads=1):\n"
            "        super().__init__()\n        self.heads = heads * GAIN\n"
        )
        yield tmp_path
        for name in ("neighbour_of_mine", "mechanism_of_mine"):
            sys.modules.pop(name, None)

    def test_a_registry_name_is_fitted_to_the_width(self) -> None:
        assert subject("se", channels=8).fresh().reduction == 8
        assert subject("SE", channels=32, options={"reduction": 4}).fresh().reduction == 4
        assert subject("se").fresh(256).channels == 256

    def test_a_class_in_a_file_can_import_its_neighbours(self, folder: Path) -> None:
        found = subject(f"{folder}/mechanism_of_mine.py:Mine", options={"heads": 3})
        assert found.fresh().heads == 6
        assert found.folder == folder
        assert found.cls.__module__ == "mechanism_of_mine"
        assert str(folder) not in sys.path
        assert subject(f"{folder}/mechanism_of_mine.py:Mine").cls is found.cls

    def test_options_are_those_of_the_class(self, folder: Path) -> None:
        with pytest.raises(UnknownNameError, match=r"no option of Mine is called 'head'; did you mean heads\?"):
            subject(f"{folder}/mechanism_of_mine.py:Mine", options={"head": 3})

        class TakesAny(nn.Identity):
            def __init__(self, channels: int, **rest: int) -> None:
                super().__init__()

        assert subject(TakesAny, options={"anything": 1}).fresh(8)

    def test_a_class_in_an_installed_package_is_found_by_its_import_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "package_of_mine"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "attention.py").write_text("from torch import nn\nclass Mine(nn.Identity):\n    pass\n")
        (package / "needs.py").write_text("import nothing_of_that_name\n")
        (package / "breaks.py").write_text("1 / 0\n")
        monkeypatch.syspath_prepend(tmp_path)
        found = subject("package_of_mine.attention:Mine")
        assert (found.cls.__module__, found.folder) == ("package_of_mine.attention", None)
        for target, error, message in (
            ("package_of_mine.attention:Mien", UnknownNameError, "'Mien'; did you mean Mine"),
            (
                "package_of_mine.more:Mine",
                OptionError,
                "no installed package has a module package_of_mine.more;",
            ),
            ("nothing_of_mine:Mine", OptionError, "no installed package has a module nothing_of_mine; install"),
            (
                "package_of_mine.needs:Mine",
                OptionError,
                "needs the package nothing_of_that_name, which is not",
            ),
            ("package_of_mine.breaks:Mine", OptionError, "cannot be imported: ZeroDivisionError"),
        ):
            with pytest.raises(error, match=message):
                subject(target)

    def test_weights_are_moved_from_their_start(self) -> None:
        found = subject(nn.BatchNorm2d)
        assert torch.equal(found.fresh().weight, torch.ones(64))
        assert not torch.equal(found.perturbed().weight, torch.ones(64))

    @pytest.mark.parametrize(
        ("text", "name", "error", "message"),
        [
            ("x = 1", "mine.py:Mine", UnknownNameError, "no module class in mine.py is called 'Mine'"),
            (MODULES, "mine.py:Mine", UnknownNameError, r"did you mean Mina\?"),
            (MODULES, "mine.py:Other", UnknownNameError, "'Other'; there are: Mina$"),
            (MODULES, "mine.py", OptionError, "a file and no class; say which, as in mine.py:NAME; there are: Mina$"),
            ("class Mine: pass", "mine.py:Mine", UnknownNameError, "no module class in mine.py .*; there is none$"),
            ("1 / 0", "mine.py:Mine", OptionError, "cannot be imported: ZeroDivisionError.*run it alone"),
            ("x = ", "mine.py:Mine", OptionError, "cannot be imported: SyntaxError"),
            ("", "none.py:Mine", OptionError, "none.py; check the path"),
            (
                "",
                "json.py:Mine",
                OptionError,
                "json.py as 'json': a module of that name is loaded already; rename",
            ),
            ("", "ecax", UnknownNameError, r"did you mean eca\?"),
        ],
    )
    def test_what_cannot_be_found_is_said(
        self,
        text: str,
        name: str,
        error: type[Exception],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(text)
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        with pytest.raises(error, match=message):
            subject(name)
