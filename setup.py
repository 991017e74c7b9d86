"""For tools that look for a setup.py. Name, dependencies and extras are in pyproject.toml."""

from setuptools import setup

setup()
