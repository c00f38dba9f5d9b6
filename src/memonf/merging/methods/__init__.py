"""Merge methods, one per file: presets of parts, and methods that are not made of parts.

A new file here is registered automatically; see docs/adding.md.
"""
