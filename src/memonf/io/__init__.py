"""Files in and out: field files, third-party checkpoints, exports for other tools.

`checkpoint` reads and writes field files, `importing` reads NeRF checkpoints of other code bases as
data, `export` writes meshes, points, grids, ONNX and cameras.
"""
