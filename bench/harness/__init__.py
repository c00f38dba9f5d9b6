"""The benchmark behind ``memonf bench``: sides measured in turn, each job in a fresh process.

Nothing is imported here: the start of every fresh process counts.
"""
