"""From densities and colours to pictures, and what cameras saw; fields come in as functions.

`occupancy_grid` says which cells hold matter, `ray_marching` places samples along rays,
`volume_rendering` composites them, `baking` writes a field out on a grid, `knowledge` records what
a field's cameras saw.
"""
