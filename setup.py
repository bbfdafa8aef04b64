"""What pyproject.toml cannot say: a wheel's tag is that of what was built.

The compiled core is optional. Where no compiler was, setuptools would still tag the wheel as compiled, and pip would
prefer it to a complete one.
"""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel


class Wheel(bdist_wheel):
    """Tags a wheel with the compiled core ``cp311-abi3``, and one without ``py3-none-any``."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return Python, ABI and platform of what is in the wheel."""
        if not any(Path(self.bdist_dir).rglob("_core.*.so")):
            self.root_is_pure = True
            return "py3", "none", "any"
        implementation, abi, platform = super().get_tag()
        limited = sys.implementation.name == "cpython" and not abi.endswith(
            "t"
        )  # free-threaded builds have no stable ABI
        return ("cp311", "abi3", platform) if limited else (implementation, abi, platform)


setup(cmdclass={"bdist_wheel": Wheel})
