"""Cameras: poses, lenses, rays, placements in a capture's coordinates, and paths of films.

`cameras` holds the camera convention; `distortion` the lenses; `frames` similarities between the
coordinates of a capture and those of a field; `keyframes` camera paths.
"""
