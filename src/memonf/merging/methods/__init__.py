"""Merge methods, one a file: named presets of parts, and methods of their own.

A new file here is found by itself; see docs/adding.md.
"""
