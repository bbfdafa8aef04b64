"""A pytest plugin, or a module to import first: loads the compiled core from the file that GEN_ENGINE_CORE names."""

import importlib.util
import os
import sys

NAME = "gen_engine.engine.native._core"

spec = importlib.util.spec_from_file_location(NAME, os.environ["GEN_ENGINE_CORE"])
module = importlib.util.module_from_spec(spec)
sys.modules[NAME] = module
spec.loader.exec_module(module)
