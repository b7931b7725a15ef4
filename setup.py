"""Puts what ships beside the program into the wheel; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("router_binary", "vagrant", "Vagrantfile")
BESIDE_THE_RECIPE = Path("deploytool/rehearsal/fleets")
"""What vagrant/build-box looks for there, from its own folder."""


class BuildWithFiles(build_py):
    """Copies them to ``deploytool/shipped``, where ``deploytool.shipped`` finds them."""

    def run(self) -> None:
        """Builds as usual, and then copies; an editable installation has the checkout."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "deploytool" / "shipped"
        for name in SHIPPED:
            source = Path(name)
            shutil.rmtree(target / name, ignore_errors=True)
            if source.is_dir():
                skipped = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
                shutil.copytree(source, target / name, ignore=skipped)
            else:
                shutil.copy2(source, target / name)
        (target / BESIDE_THE_RECIPE).mkdir(parents=True, exist_ok=True)
        for name in ("bare.sh", "bare.packages"):
            shutil.copy2(BESIDE_THE_RECIPE / name, target / BESIDE_THE_RECIPE / name)


setup(cmdclass={"build_py": BuildWithFiles})
