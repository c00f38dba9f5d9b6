"""Scores of fields: on held-out pictures, and without any image.

`evaluate` renders held-out views, `metrics` and `lpips` compare pictures, `image_free` judges a
merge by its parents alone, `baselines` holds what merges are measured against.
"""
