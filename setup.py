"""Installation: `pip install .`, with the extras `dev` for the tests, `lanms` to compare the merging with,
`heic` for images in HEIC, `onnx` and `tflite` for exported networks, `demo` for the page and the HTTP
endpoint, `pjrt` for training without TensorFlow, `torch` for PyTorch's weight files.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "efficientnet_east/__init__.py").read_text()).group(1)

setup(
    name="efficientnet-east",
    version=VERSION,
    description="EAST scene-text detection on EfficientNet backbones, in tf-slim",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["efficientnet_east", "efficientnet_east.*"]),
    package_data={"efficientnet_east": ["py.typed", "models/*"]},
    install_requires=[
        "tensorflow>=2.18,<2.22",
        "tf-keras>=2.18,<2.22",  # tf-slim's batch_norm; must have TensorFlow's own minor version
        "tf-slim>=1.1.0",
        "numpy>=1.26",
        "opencv-python-headless>=4.10",
        "pillow>=10.4",
        "grain>=0.2.16",
        "psutil>=5.9",
        "pydantic>=2.7",
        "pyyaml>=6.0",
        "tqdm>=4.66",
        "absl-py>=2.0",
        "matplotlib>=3.8",  # its fonts letter the synthetic scenes
        "h5py>=3.11",
        "onnxruntime>=1.20",  # runs the model in the package
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.18,<2.22"],  # the libraries that NVIDIA GPUs need
        "lanms": ["lanms-neo>=1.0.2"],  # for tests and benchmarks; needs a C++ compiler
        "heic": ["pillow-heif>=0.22"],
        "onnx": ["onnx>=1.21"],  # to write
        "tflite": ["ai-edge-litert>=1.2"],
        "demo": ["gradio>=6.31", "fastapi>=0.115.2", "uvicorn>=0.30", "python-multipart>=0.0.18"],
        "pjrt": ["jaxlib>=0.7.2"],
        "torch": ["torch>=2.0", "safetensors>=0.4"],
        "dev": [
            "pytest>=8.0",
            "jaxlib>=0.7.2",
            "onnx>=1.21",
            "ai-edge-litert>=1.2",
            "fastapi>=0.115.2",  # of `demo` what the endpoint needs; Gradio is large
            "uvicorn>=0.30",
            "python-multipart>=0.0.18",
            "pillow-heif>=0.22",
            "hypothesis>=6.100",
            "shapely>=2.0",  # the second implementation of the geometry, in its tests
            "tensorboard>=2.18",  # reads what training writes
            "ruff>=0.6",
            "mypy>=1.11",
            "types-pyyaml",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["efficientnet-east = efficientnet_east.__main__:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
