"""Distillation data: the parents' outputs where they saw, and the error of a field against them."""
