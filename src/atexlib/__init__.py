"""Manipulated explanations of neural networks: how they are made, and how they are measured."""

from .auditing import audit

__all__ = ["audit"]

__version__ = "0.1.0"
