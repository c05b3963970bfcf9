"""`attngraft.doctor`: a function and a package, which imports no host until it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attngraft
import attngraft.doctor


def test_the_package_is_the_function() -> None:
    import attngraft.doctor as package
    from attngraft.doctor import doctor, subject

    assert attngraft.doctor is package is doctor
    assert callable(package.subject)
    assert package.subject is subject


def test_the_doctor_imports_no_detector_and_no_runtime() -> None:
    code = "import sys, attngraft.doctor; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    source = Path(attngraft.doctor.__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=source)
    assert not {"ultralytics", "onnx", "onnxruntime", "openvino", "cv2", "sympy"} & set(ran.stdout.split())
