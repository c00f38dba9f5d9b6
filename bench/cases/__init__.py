"""The cases, one file a subject; see `harness.case`."""
