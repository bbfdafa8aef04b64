"""The names that engines are built and run with exist in the real bindings of TensorRT, oldest and newest supported.

The bindings' wheels are small, and their extension needs nine symbols of libraries that are not; empty ones take their
place, so that the classes can be looked at. Nothing of TensorRT is run.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = {
    "nvinfer": (
        *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
        *("getBuilderPluginRegistry", "getPluginRegistry"),
    ),
    "nvonnxparser": (
        *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion"),
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}
USED = {
    "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
    "IBuilderConfig": "set_flag clear_flag builder_optimization_level hardware_compatibility_level progress_monitor "
    "set_memory_pool_limit add_optimization_profile create_timing_cache set_timing_cache get_timing_cache",
    "IOptimizationProfile": "set_shape",
    "INetworkDefinition": "num_inputs get_input num_outputs get_output",
    "ITensor": "name shape dtype",
    "OnnxParser": "parse num_errors get_error",
    "ParserError": "node_name desc",
    "Runtime": "deserialize_cuda_engine",
    "ICudaEngine": "create_engine_inspector create_execution_context num_io_tensors get_tensor_name get_tensor_mode "
    "get_tensor_dtype",
    "IExecutionContext": "set_input_shape set_tensor_address execute_async_v3 get_tensor_shape "
    "update_device_memory_size_for_shapes set_device_memory",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "TensorIOMode": "INPUT OUTPUT",
    "DataType": "FLOAT INT64 UINT8",
    "EngineInspector": "get_engine_information",
    "ITimingCache": "serialize",
    "BuilderFlag": "TF32",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
    "MemoryPoolType": "WORKSPACE",
    "LayerInformationFormat": "ONELINE",
    "ILogger": "Severity log",
    "IProgressMonitor": "phase_start step_complete phase_finish",
}
"""Class → what the modules ``tensorrt_engine`` and ``tensorrt`` of :mod:`gen_engine.engine.backends` use of it."""

LOOK = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings as trt
used = json.loads(sys.argv[2])
missing = [f"{c}.{n}" for c, names in used.items() for n in names.split() if not hasattr(getattr(trt, c, None), n)]
print(json.dumps([trt.__version__, missing]))
"""


def stub_libraries(folder: Path, major: str) -> None:
    """Compile empty libraries of the names that the extension asks for."""
    for name, symbols in LIBRARIES.items():
        source = folder / f"{name}.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        file = f"lib{name}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(folder / file), str(source)], check=True
        )


@pytest.mark.slow
@pytest.mark.parametrize("version", ["10.13.3.9", "11.4.0.106"])
def test_every_name_that_is_used_exists(tmp_path: Path, version: str) -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64" or shutil.which("gcc") is None:
        pytest.skip("needs gcc on x86-64 Linux")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "wheel")]
    done = subprocess.run([*install, f"tensorrt-cu13-bindings=={version}"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the bindings cannot be installed here: {done.stderr.strip().splitlines()[-1][:200]}")
    stub_libraries(tmp_path, version.partition(".")[0])
    found = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path / "wheel"), json.dumps(USED)],
        env={"LD_LIBRARY_PATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == [version, []]
