"""Files, processes, devices, memory and plug-ins: what knows nothing of fields."""
