"""The user's torch module, made by the user's own code: imported and called, and its faults reported as its own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gen_engine.export.errors import UnsupportedGenerator, quoted

_ARGUMENT = "--imported-by-gen-engine"
"""What a module sees as the command line while it is imported: never ours, which it might take for its own."""


def make_module(spec: str, arguments: Mapping[str, Any], *, flag: str = "--module") -> nn.Module:
    """Return ``package.module:Factory(**arguments)``, or ``path/file.py:Factory(**arguments)``.

    The current directory is searched last; of a file, its own directory. Messages name ``flag``, which ``spec`` was
    given by.

    Raises:
        UnsupportedGenerator: it is not there, its code fails or ends the program, or it makes something else.
    """
    name, _, attribute = spec.partition(":")
    if not name or not attribute:
        raise UnsupportedGenerator(f"{flag} {spec} is not PACKAGE.MODULE:FACTORY or FILE.py:FACTORY")
    with _guarded(f"{flag} {spec}", name, f"importing {name}"):
        factory = _attribute(_imported(name), attribute) if name.endswith(".py") else _resolved(name, attribute)
    if not callable(factory):
        raise UnsupportedGenerator(f"{flag} {spec} is a {type(factory).__name__}, not a class or function")
    with _guarded(f"{flag} {spec}", name, f"calling {attribute}"):
        made = factory(**arguments)
    if not isinstance(made, nn.Module):
        raise UnsupportedGenerator(f"{flag} {spec} made a {type(made).__name__}, not a torch.nn.Module")
    return made


def _resolved(name: str, attribute: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # and stays, for what the module imports when it is called
    return pkgutil.resolve_name(f"{name}:{attribute}")


def _imported(name: str) -> ModuleType:
    path = Path(name).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # before it runs, as dataclasses need it
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, attribute: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


@contextlib.contextmanager
def _guarded(given: str, name: str, doing: str) -> Iterator[None]:
    """Report an error of the user's code as its own; redirect what it prints to standard error."""
    words, argv, ended = io.StringIO(), sys.argv, False
    sys.argv = [name, _ARGUMENT]
    try:
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            yield
    except SystemExit as error:
        ended = True
        last = (words.getvalue().strip().splitlines() or [""])[-1].strip()
        raise UnsupportedGenerator(
            f"{given}: {doing} ended the program (exit {error.code}), as a script does that reads the command "
            f"line or trains when it is imported{f'; it wrote: {last}' if last else ''}. Move the class into a file of "
            'its own, or put the rest of the script under if __name__ == "__main__":'
        ) from error
    except Exception as error:  # the user's code
        missing = isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]
        hint = f". Neither installed nor in the current directory, {Path.cwd()}" if missing else ""
        raise UnsupportedGenerator(f"{given}: {doing}: {type(error).__name__}: {quoted(error)}{hint}") from error
    finally:
        sys.argv = argv
        if not ended:
            sys.stderr.write(words.getvalue())
