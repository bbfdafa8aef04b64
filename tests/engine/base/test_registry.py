"""Registries: built-in names, plugins by entry point, and the errors for everything else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from plugin import install_plugin

from gen_engine.engine.base.registry import Registry

GROUP = "gen_engine.things"


def make() -> Registry:
    return Registry(GROUP, "thing", LookupError, {"square": "math:pow", "root": "math:sqrt"})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_built_in_is_loaded_by_name_without_reading_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("metadata was read")

    monkeypatch.setattr("gen_engine.engine.base.registry.entry_points", refuse)
    assert make().load("root")(9) == 3


def test_a_plugin_is_found_and_imported_only_when_it_is_loaded(site: Path) -> None:
    install_plugin(site, "plugin_lazy", "class Cube: pass", {GROUP: {"cube": "Cube"}})
    things = make()
    assert list(things) == ["square", "root", "cube"]
    assert "cube" in things
    assert (len(things), things["cube"], things["root"]) == (3, "plugin_lazy:Cube", "math:sqrt")
    assert "plugin_lazy" not in sys.modules
    assert things.load("cube").__name__ == "Cube"


@pytest.mark.parametrize(("name", "hint"), [("sqare", "did you mean 'square'\\? "), ("zzz", "")])
def test_an_unknown_name_gets_the_nearest_one(name: str, hint: str) -> None:
    with pytest.raises(LookupError, match=f"unknown thing '{name}': {hint}choose one of square, root"):
        make().load(name)


def test_a_plugin_with_a_built_in_name_is_refused(site: Path) -> None:
    install_plugin(site, "plugin_clash", "def root(): pass", {GROUP: {"root": "root"}})
    with pytest.raises(LookupError, match=r"thing 'root' is defined twice: as math:sqrt, and as plugin_clash:root by"):
        list(make())


def test_two_plugins_with_one_name_are_refused(site: Path) -> None:
    install_plugin(site, "plugin_one", "cube = 1", {GROUP: {"cube": "cube"}})
    install_plugin(site, "plugin_two", "cube = 2", {GROUP: {"cube": "cube"}})
    with pytest.raises(LookupError, match=r"'cube' is defined twice: as plugin_one:cube, and as plugin_two:cube by"):
        make().load("cube")


def test_a_plugin_that_cannot_be_imported_is_named(site: Path) -> None:
    install_plugin(site, "plugin_broken", "import no_such_module_here", {GROUP: {"cube": "Cube"}})
    with pytest.raises(LookupError, match="thing 'cube' of package plugin_broken cannot be imported") as caught:
        make().load("cube")
    assert isinstance(caught.value.__cause__, ImportError)
