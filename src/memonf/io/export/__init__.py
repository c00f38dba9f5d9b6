"""Fields and pictures for other tools: stills and films."""
