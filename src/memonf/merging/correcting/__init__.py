"""Parts of methods that correct the statistics of merged units (REPAIR), one way a file."""
