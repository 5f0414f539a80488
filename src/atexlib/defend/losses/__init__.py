"""Defences that are a loss: one file each, what it minimises in the docstring; `penalised` makes the trainer."""
