"""Manipulated explanations of neural networks: how they are made, and how they are measured."""

__version__ = "0.1.0"
